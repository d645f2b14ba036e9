#!/usr/bin/env python3
"""A sparse shop's log: the shape of Amazon Beauty with 5 events or more (22,363 users, 12,101 items, 198,000 events).

usage: shop.py FILE [SEED]

Written as policy-bench and train-bench read it: user, item, seconds, tab-separated, each user's events in time order.
Items have a popularity by a power law, lie in 400 categories, and each leads to five others, mostly of its category; a
user has one to three categories. Of the events 30 % follow the event before, 10 % one of the last four, 35 % the user's
categories, 25 % popularity alone. What is learned here says nothing of real shops but that a search keeps its time and
memory on their shape.
"""
import bisect
import itertools
import math
import random
import sys

USERS, ITEMS, EVENTS, CATEGORIES = 22_363, 12_101, 198_502, 400


def sampler(items, weights):
    sums = list(itertools.accumulate(weights))
    return lambda: items[bisect.bisect(sums, random.random() * sums[-1])]


def main():
    random.seed(int(sys.argv[2]) if len(sys.argv) > 2 else 7)
    order = list(range(ITEMS))
    random.shuffle(order)
    weight = [0.0] * ITEMS
    for rank, item in enumerate(order):
        weight[item] = (rank + 8) ** -0.75
    category = [random.randrange(CATEGORIES) for _ in range(ITEMS)]
    members = [[] for _ in range(CATEGORIES)]
    for item in range(ITEMS):
        members[category[item]].append(item)
    anything = sampler(list(range(ITEMS)), weight)
    inside = [sampler(own, [weight[i] for i in own]) if own else anything for own in members]
    leads = [
        [inside[category[item] if random.random() < 0.8 else random.randrange(CATEGORIES)]() for _ in range(5)]
        for item in range(ITEMS)
    ]
    beyond = EVENTS / USERS - 5
    with open(sys.argv[1], "w") as out:
        out.write("user\titem\ttimestamp\n")
        for user in range(1, USERS + 1):
            length = min(200, 5 + int(math.log(1 - random.random()) / math.log(beyond / (1 + beyond))))
            taste = [random.randrange(CATEGORIES) for _ in range(random.choice([1, 2, 3]))]
            time = 1_100_000_000 + random.randrange(1200 * 86_400)
            history = []
            for _ in range(1000):
                if len(history) == length:
                    break
                draw = random.random()
                if history and draw < 0.30:
                    item = random.choice(leads[history[-1]])
                elif history and draw < 0.40:
                    item = random.choice(leads[random.choice(history[-4:])])
                elif draw < 0.75:
                    item = inside[random.choice(taste)]()
                else:
                    item = anything()
                if item not in history:
                    history.append(item)
            for item in history:
                if random.random() < 0.5:
                    time += int(random.expovariate(1 / (86_400 * 20)))
                out.write(f"{user}\t{item + 1}\t{time}\n")


main()
