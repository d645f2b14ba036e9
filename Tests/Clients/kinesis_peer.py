"""Runs moto's Kinesis with its check of signatures on, and writes to a stream of it.

Usage: kinesis_peer.py COUNT. Prints a line of JSON with the endpoint and the keys of a user who may
read. On each line that it reads: `split` splits the first open shard and writes COUNT records more,
`merge` merges the two newest shards and does the same; both answer with the number of records written
so far. It ends with its standard input.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import boto3

count = int(sys.argv[1])
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
server = subprocess.Popen(
    [os.path.join(os.path.dirname(sys.executable), "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
    # Three calls without a check: user, policy, key.
    env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "3"},
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
endpoint = "http://127.0.0.1:%d" % port


def client(service, key="none", secret="none"):
    return boto3.client(
        service, endpoint_url=endpoint, region_name="eu-central-1",
        aws_access_key_id=key, aws_secret_access_key=secret,
    )


try:
    while True:
        try:
            urllib.request.urlopen(endpoint + "/moto-api/", timeout=1)
            break
        except OSError:
            if server.poll() is not None:
                sys.exit("moto_server ended")
            time.sleep(0.05)
    iam = client("iam")
    iam.create_user(UserName="riffle")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": ["kinesis:*"], "Resource": "*"}],
    }
    iam.put_user_policy(
        UserName="riffle", PolicyName="kinesis", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="riffle")["AccessKey"]
    kinesis = client("kinesis", key["AccessKeyId"], key["SecretAccessKey"])
    kinesis.create_stream(StreamName="clicks", ShardCount=2)
    written = 0

    def write():
        global written
        for start in range(0, count, 100):
            kinesis.put_records(
                StreamName="clicks",
                Records=[
                    {
                        "Data": json.dumps({"id": "e%d" % (written + i), "user": "u%d" % (i % 7)}),
                        "PartitionKey": "u%d" % (i % 7),
                    }
                    for i in range(start, min(start + 100, count))
                ],
            )
        written += count

    def open_shards():
        shards = kinesis.list_shards(StreamName="clicks")["Shards"]
        return [s for s in shards if "EndingSequenceNumber" not in s["SequenceNumberRange"]]

    write()
    print(
        json.dumps(
            {
                "endpoint": endpoint, "key": key["AccessKeyId"], "secret": key["SecretAccessKey"],
                "written": written,
            }),
        flush=True,
    )
    for line in sys.stdin:
        shards = open_shards()
        if line.strip() == "split":
            span = shards[0]["HashKeyRange"]
            middle = (int(span["StartingHashKey"]) + int(span["EndingHashKey"])) // 2
            kinesis.split_shard(
                StreamName="clicks", ShardToSplit=shards[0]["ShardId"],
                NewStartingHashKey=str(middle))
        elif line.strip() == "merge":
            shards.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
            kinesis.merge_shards(
                StreamName="clicks", ShardToMerge=shards[0]["ShardId"],
                AdjacentShardToMerge=shards[1]["ShardId"])
        write()
        print(json.dumps({"written": written}), flush=True)
finally:
    server.kill()
