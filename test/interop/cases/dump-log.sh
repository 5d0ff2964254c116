# Apache Kafka's DumpLogSegments reads our files without complaint: sealed segments while the broker runs, all files after a clean stop.
set -euo pipefail
. test/interop/lib.sh
port=$(free_port)
trap stop_broker EXIT
start_broker "$WORK/dump" "127.0.0.1:$port" log.segment.bytes=1048576
"$OTTLA" topic create dump --partitions 1 --bootstrap-server "127.0.0.1:$port" >/dev/null
for codec in none gzip snappy lz4 zstd; do
  seq 1 60000 | awk '{print "k" $1 "\tsome text of record " $1 " " $1 * 7919 % 99991}' |
    kcat -b "127.0.0.1:$port" -P -t dump -p 0 -K '\t' -z $codec -X batch.num.messages=500 -X enable.idempotence=true
done
stop_broker
segments=0 files=0
for f in "$WORK"/dump/topics/dump-0/*.{log,index,timeindex,snapshot}; do
  case $f in *.log) args=(--deep-iteration) segments=$((segments + 1)) ;; *) args=() ;; esac
  kafka org.apache.kafka.tools.DumpLogSegments "${args[@]}" --files "$f" >"$WORK/out"
  if grep -iE 'mismatch|non-consecutive|invalid|corrupt|error|could not' "$WORK/out" | head -n 3 | grep .; then fail "complaints about $f"; fi
  files=$((files + 1))
  case $f in *.log) grep -oE 'offset: [0-9]+ ' "$WORK/out" >>"$WORK/offsets" || true ;; esac
done
[ "$segments" -ge 5 ] || fail "only $segments segments: nothing was rolled"
count=$(sort -u "$WORK/offsets" | wc -l)
[ "$count" -eq 300000 ] || fail "the files hold $count records, not 300000"
echo "$files files of $segments segments, 300,000 records"
