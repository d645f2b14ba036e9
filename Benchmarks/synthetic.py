#!/usr/bin/env python3
"""A catalogue of any size with users whose histories are long enough to encode, for benchmarks of queries.

usage: synthetic.py ITEMS DIRECTORY [HISTORY]

Items lie in topics; a user stays with four topics and goes through their items in turn, so every item has an event
and a sequence model has something to learn. Speed does not depend on what it has learned: it trains one epoch.

Written to DIRECTORY: items.csv, events.csv, users.txt, engine.yaml, and the bodies of requests, one a line:
  stored.jsonl   user id alone: the server reads the history from its state, and encodes it once
  given.jsonl    user id and the newest HISTORY (200) items: the server encodes them for every request
  small.jsonl    the newest 50 items alone, and ten items wanted: the work of the FastAPI baseline
"""
import json
import random
import sys


def main():
    items, directory = int(sys.argv[1]), sys.argv[2]
    length = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    random.seed(11)
    topics = max(20, items // 500)
    each = 220
    users = max(2000, -(-items * 11 // (10 * each)))
    with open(f"{directory}/items.csv", "w") as out:
        out.write("item_id,title,topic,creator_id,language,duration_s\n")
        for i in range(items):
            language = random.choices(["en", "de", "fr", "es"], [60, 20, 10, 10])[0]
            out.write(f"i{i},Item number {i} of topic {i % topics},t{i % topics},c{i % (items // 20 + 1)},{language},{random.randint(5, 300)}\n")
    position = [0] * topics
    histories = []
    with open(f"{directory}/events.csv", "w") as out:
        out.write("user_id,item_id,created_at\n")
        for user in range(users):
            liked = [(user * 4 + k * 7) % topics for k in range(4)]
            history = []
            for step in range(each):
                topic = liked[step // 5 % 4]
                row = topic + topics * position[topic]
                position[topic] += 1
                if topic + topics * position[topic] >= items:
                    position[topic] = 0
                history.append(f"i{row}")
                out.write(f"u{user},i{row},{1_760_000_000_000 + step * 60_000}\n")
            histories.append(history)
    with open(f"{directory}/users.txt", "w") as out:
        out.writelines(f"u{user}\n" for user in range(users))
    order = list(range(users))
    random.shuffle(order)
    with open(f"{directory}/stored.jsonl", "w") as stored, open(f"{directory}/given.jsonl", "w") as given, \
            open(f"{directory}/small.jsonl", "w") as small:
        for user in order[:4000]:
            stored.write(json.dumps({"parameters": {"user_id": f"u{user}"}}) + "\n")
            given.write(json.dumps({"parameters": {"user_id": f"u{user}", "history": histories[user][-length:]}}) + "\n")
            # As the baseline's load does: items drawn at random.
            drawn = [f"i{random.randrange(items)}" for _ in range(50)]
            small.write(json.dumps({"parameters": {"history": drawn}, "return_metadata": False}) + "\n")
    with open(f"{directory}/engine.yaml", "w") as out:
        out.write(ENGINE.replace("LENGTH", str(length)))


ENGINE = """version: v2
name: bench
data:
  interaction_table: events
  item_table: items
  filters:
    - name: watched
      filter_table: {type: query, query: "SELECT user_id, item_id FROM events"}
      filter_type: {type: personal, user_id_column: user_id, item_id_column: item_id}
index:
  vector_search: {method: exact}
training:
  models:
    - {policy_type: sasrec, hidden_size: 64, n_layers: 2, n_heads: 2, max_seq_length: LENGTH, n_epochs: 1}
queries:
  stored:
    parameters: {user_id: {required: true}}
    query: |
      SELECT title, topic, creator_id, language, duration_s
      FROM similarity(embedding_ref='sasrec', encoder='precomputed_user', input_user_id=$user_id, limit=300)
      WHERE prebuilt('watched', input_user_id=$user_id) AND language = 'en' AND duration_s < 120
      ORDER BY score(expression='sasrec - 0.0001 * item.duration_s', input_user_id=$user_id)
      REORDER BY diversity(0.3, diversity_attributes=['creator_id'])
      LIMIT 20
  given:
    parameters: {user_id: {required: true}, history: {required: true}}
    query: |
      SELECT title, topic, creator_id, language, duration_s
      FROM similarity(embedding_ref='sasrec', encoder='session', input_interactions_item_ids=$history, limit=300)
      WHERE prebuilt('watched', input_user_id=$user_id) AND language = 'en' AND duration_s < 120
      ORDER BY score(expression='sasrec - 0.0001 * item.duration_s', input_interactions_item_ids=$history)
      REORDER BY diversity(0.3, diversity_attributes=['creator_id'])
      LIMIT 20
  small:
    parameters: {history: {required: true}}
    query: |
      SELECT item_id
      FROM similarity(embedding_ref='sasrec', encoder='session', input_interactions_item_ids=$history, limit=100)
      WHERE item_id NOT IN $history
      ORDER BY score(expression='sasrec', input_interactions_item_ids=$history)
      LIMIT 10
"""

main()
