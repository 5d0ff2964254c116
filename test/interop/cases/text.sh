# More than 40 MB of real text, no file twice, goes in by `ottla produce`; the broker is killed with SIGKILL; kcat and the Java console
# consumer get every byte back, in order.
set -euo pipefail
. test/interop/lib.sh
source=$(go env GOROOT)/src
# Go's own source: some 80 MB on every machine that builds us. Files with lines beyond message.max.bytes would need another limit.
find "$source" -type f -name '*.go' -size -400k -print0 | sort -z | xargs -0 awk 1 >"$WORK/in"
truncate -s "<45000000" "$WORK/in"
echo >>"$WORK/in"
bytes=$(stat -c %s "$WORK/in")
[ "$bytes" -ge 40000000 ] || fail "only $bytes bytes of text"

port=$(free_port)
trap stop_broker EXIT
start_broker "$WORK/text-data" "127.0.0.1:$port"
"$OTTLA" topic create text --partitions 1 --bootstrap-server "127.0.0.1:$port" >/dev/null
"$OTTLA" produce text --bootstrap-server "127.0.0.1:$port" <"$WORK/in" >/dev/null
kill -9 "$broker_pid"
wait "$broker_pid" 2>/dev/null || true
start_broker "$WORK/text-data" "127.0.0.1:$port"

kcat -b "127.0.0.1:$port" -C -t text -p 0 -o beginning -e -q >"$WORK/kcat"
cmp "$WORK/in" "$WORK/kcat"
lines=$(wc -l <"$WORK/in")
kafka org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "127.0.0.1:$port" --topic text --from-beginning \
  --max-messages "$lines" --timeout-ms 60000 >"$WORK/java"
cmp "$WORK/in" "$WORK/java"
"$OTTLA" consume text --bootstrap-server "127.0.0.1:$port" --offset earliest --count "$lines" >"$WORK/ottla"
cmp "$WORK/in" "$WORK/ottla"
echo "$lines lines, $bytes bytes: kcat, Java and ottla got the same back after SIGKILL"
