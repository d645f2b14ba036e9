"""Puts every documented form of query to a server through the published client.

Usage: python shaped_queries.py http://127.0.0.1:PORT/v2
The server holds the small world of the HTTP tests: engine `feed`, trained. Prints a line for each
form that fails, and ends with status 1 if any did.
"""

import sys

from shaped import Client

client = Client(api_key="0" * 40, base_url=sys.argv[1])
failures = []
count = 0


def check(name, condition, detail=""):
    global count
    count += 1
    if not condition:
        failures.append(f"{name}: {detail}")


FEED = """
SELECT score(expression='0.7*sasrec + 0.1*exp(-(now_seconds()-item.published_at)/86400)',
             input_user_id=$user_id) AS s,
       diversity(score=s, strength=0.3, diversity_attributes=['topic']) AS d,
       exploration(score=d, strength=0.1,
         retriever=column_order(columns='published_at DESC', limit=100)) AS r,
       item_id, topic
FROM retrieve(
  similarity(embedding_ref='taste', encoder='precomputed_user', input_user_id=$user_id, limit=300, name='seq_r'),
  similarity(embedding_ref='taste', encoder='interaction_pooling', input_user_id=$user_id,
             pooling_function='mean', truncate_interactions=10, limit=150, name='content_r'),
  column_order(columns='_derived_trending_rank ASC', limit=100, name='trend_r'))
WHERE prebuilt('already_seen', input_user_id=$user_id) AND topic = '$topic'
ORDER BY r DESC
LIMIT $page_size
"""
FEED_JSON = {
    "type": "rank", "from": "item",
    "retrieve": [
        {"type": "similarity", "name": "seq_r", "embedding_ref": "taste", "limit": 300,
         "query_encoder": {"type": "precomputed_user", "input_user_id": "$user_id"}},
        {"type": "similarity", "name": "content_r", "embedding_ref": "taste", "limit": 150,
         "query_encoder": {"type": "interaction_pooling", "input_user_id": "$user_id",
                           "pooling_function": "mean", "truncate_interactions": 10}},
        {"type": "column_order", "name": "trend_r", "limit": 100,
         "columns": [{"name": "_derived_trending_rank", "ascending": True}]}],
    "filter": [
        {"type": "prebuilt", "filter_ref": "ref:data.filters:already_seen", "input_user_id": "$user_id"},
        {"type": "expression", "expression": "topic = '$topic'"}],
    "score": {"type": "score_ensemble", "value_model": "0.7*sasrec", "input_user_id": "$user_id"},
    "reorder": [
        {"type": "diversity", "strength": 0.3, "diversity_attributes": ["topic"]},
        {"type": "exploration", "strength": 0.1,
         "retriever": {"type": "column_order", "limit": 100,
                       "columns": [{"name": "published_at", "ascending": False}]}}],
    "limit": 5, "columns": ["topic"]}
PARAMETERS = {"user_id": "u0", "topic": "even", "page_size": 5, "item_id": "i3", "q": "odd",
              "session": ["i2", "i4", "i6"], "language": "en"}

FORMS = {
    "feed": (FEED, 5),
    "feed as JSON": (FEED_JSON, 5),
    "more like this": ("SELECT * FROM similarity(embedding_ref='taste', encoder='precomputed_item', "
                       "input_item_id='$item_id', limit=50) WHERE item_id != '$item_id' LIMIT 20", 20),
    "search": ("SELECT * FROM text_search(query='$q', mode='lexical', fuzziness=1, limit=100, name='lex'), "
               "similarity(embedding_ref='taste', input_user_id='$user_id', limit=100, name='vec') "
               "ORDER BY score(expression='1.0/(60+retrieval.get_rank(\"lex\",999)) + "
               "1.0/(60+retrieval.get_rank(\"vec\",999)) + 0.01*sasrec', input_user_id='$user_id') LIMIT 30", 30),
    "session": ("SELECT * FROM items ORDER BY score(expression='sasrec', "
                "input_interactions_item_ids=$session) LIMIT 5", 5),
    "popular": ("SELECT * FROM column_order(columns='_derived_popular_rank ASC') LIMIT 5", 5),
    "no encoder": ("SELECT * FROM similarity(input_user_id='$user_id', embedding_ref='taste', limit=50), "
                   "text_search(name='tm', query='$q', mode='lexical', fuzziness=0, limit=50)", 30),
    "comment and trailing comma": (
        "SELECT * FROM similarity(embedding_ref=\"taste\" , entity_type=\"items\", limit=200, "
        "encoder='precomputed_user',\n -- a comment\n input_user_id='u5'), "
        "column_order( columns='_derived_popular_rank asc', )", 30),
    "vectors in a score": (
        "SELECT * FROM items ORDER BY score(expression='0.2 * sasrec + \\\n 0.8 * cosine_similarity("
        "pooled_text_encoding(user.recent_interactions, pool_fn=''mean'', embedding_ref=\"taste\"), \\\n"
        "text_encoding(item, embedding_ref=\"taste\"))', input_user_id='$user_id')\n"
        "-- between clauses\nREORDER BY exploration(0.2)\nLIMIT 20", 20),
    "round robin": ("SELECT * FROM similarity(embedding_ref='taste', encoder='interaction_round_robin', "
                    "input_user_id='$user_id')", 30),
    "diversity over vectors": (
        "SELECT * FROM similarity(embedding_ref='taste', input_user_id='$user_id') ORDER BY "
        "score(expression='sasrec', input_user_id='$user_id') "
        "REORDER BY diversity(0.2, text_encoding_embedding_ref='taste') LIMIT 10", 10),
    "id": ("SELECT id FROM item LIMIT 5", 5),
    "ids": ("SELECT * FROM ids(['i5', 'i2', 'i9'])", 3),
    "given items": ("SELECT * FROM candidate_attributes([{'item_id': 'new', 'topic': 'odd'}, {'item_id': 'i1'}])", 2),
    "history": ("RECOMMEND FOR HISTORY ('i2', 'i4') LIMIT 4", 4),
    "past": ("SELECT * FROM items WHERE prebuilt('already_seen', input_user_id='u0') LIMIT 30 AS OF 0", 30),
    "groups": ("SELECT topic, COUNT(*) AS n FROM items GROUP BY topic ORDER BY topic", 2),
    "filter as JSON": ({"type": "rank", "retrieve": [{"type": "filter", "limit": 100}], "limit": 3}, 3),
    "words as JSON": ({"type": "rank", "retrieve": [
        {"type": "text_search", "input_text_query": "$q", "mode": {"type": "lexical"}}], "limit": 3}, 3),
    "ids as JSON": ({"type": "rank", "retrieve": [
        {"type": "candidate_ids", "item_ids": ["i1", "i2"]}], "score": {"type": "passthrough"}}, 2),
    "computed column as JSON": ({"type": "rank", "retrieve": [{"type": "filter", "where": "topic = 'odd'"}],
        "computed_columns": [{"type": "computed_column", "value_model": "sasrec * 2",
                              "input_user_id": "$user_id", "output_alias": "twice"}],
        "filter": [{"type": "expression", "expression": "twice IS NOT NULL"}],
        "reorder": [{"type": "column_sort", "columns": [{"name": "twice", "ascending": False}]}],
        "limit": 4}, 4),
}

for name, (query, expected) in FORMS.items():
    for explained in (False, True):
        label = f"{name}{' explained' if explained else ''}"
        try:
            answer = client.execute_query(
                "feed", query, parameters=PARAMETERS, return_metadata=True,
                return_explanation=explained, return_journey_explanations=explained)
        except Exception as error:  # noqa: BLE001 - whatever the client throws is a failure
            check(label, False, repr(error)[:800])
            continue
        check(label, len(answer.results) == expected, f"{len(answer.results)} rows, not {expected}")
        check(label, all(isinstance(row.id, str) for row in answer.results), "ids are no strings")
        if explained and name != "groups":
            why = answer.explanation
            check(label, why is not None and why.retrieve_stage is not None, "no explanation")
            if why is not None and why.retrieve_stage is not None:
                check(label, why.final_result_count == expected, str(why.final_result_count))
                check(label, len(why.retrieve_stage.steps) >= 1, "no steps")
            journeys = [row.journey for row in answer.results]
            check(label, all(journey is not None for journey in journeys), "no journeys")
            if all(journey is not None for journey in journeys):
                first = journeys[0]
                journey = getattr(first, "actual_instance", first)
                check(label, journey.final_position == 1, str(journey))
        elif not explained:
            check(label, answer.explanation is None, "an explanation that nobody asked for")

# Saved queries, pages.
answer = client.execute_saved_query("feed", "feed", parameters={"user_id": "u1"})
check("saved", len(answer.results) == 5 and "topic" in answer.results[0].metadata, str(answer))
seen = []
for page in range(3):
    answer = client.execute_saved_query(
        "feed", "feed", parameters={"user_id": "u1"}, pagination_key="session-1")
    seen += [row.id for row in answer.results]
check("pages", len(seen) == 15 and len(set(seen)) == 15, str(seen))
answer = client.execute_saved_query(
    "feed", "feed", parameters={"user_id": "u1"}, pagination_key="session-1", ignore_pagination=True)
check("ignored pages", [row.id for row in answer.results] == seen[:5], str(answer))

# An error says what is wrong.
try:
    client.execute_query("feed", "SELECT * FROM similiarity(embedding_ref='taste')")
    check("error", False, "a faulty query was answered")
except Exception as error:  # noqa: BLE001
    check("error", "Did you mean: similarity?" in str(error), repr(error)[:800])

for failure in failures:
    print(failure)
print(f"{count} checks, {len(failures)} failures")
sys.exit(1 if failures else 0)
