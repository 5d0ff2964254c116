# kafka-features: what is shown, what is refused, and what Apache Kafka's own clients do at other levels.
set -euo pipefail
. test/interop/lib.sh
t=org.apache.kafka.tools
features() { kafka $t.FeatureCommand --bootstrap-server "$BOOTSTRAP" "$@"; }
epoch() { sed -n 's/.*Epoch: \([0-9]*\).*/\1/p' "$WORK/out" | head -n 1; }
shown() { # shown FEATURE MIN MAX LEVEL: a row of describe
  grep -Eq "^Feature: $1\s+SupportedMinVersion: $2\s+SupportedMaxVersion: $3\s+FinalizedVersionLevel: $4\s" "$WORK/out" || fail "$*: $(cat "$WORK/out")"
}
refused() { # refused TEXT ARGS...
  local text=$1
  shift
  if features "$@" >"$WORK/out" 2>/dev/null; then fail "$*: $(cat "$WORK/out")"; fi
  grep -qF "$text" "$WORK/out" || fail "$*: $(cat "$WORK/out")"
}
# transactions ID: some transactions of Kafka's producer, and the epoch that its id has then.
transactions() {
  kafka $t.ProducerPerformance --bootstrap-server "$BOOTSTRAP" --topic features --num-records 60 --record-size 10 --throughput 200 \
    --transactional-id "$1" --transaction-duration-ms 50 >"$WORK/perf"
  kafka $t.TransactionsCommand --bootstrap-server "$BOOTSTRAP" describe --transactional-id "$1" | awk -v id="$1" '$2 == id {print $4}'
}

kafka $t.TopicCommand --bootstrap-server "$BOOTSTRAP" --create --topic features --partitions 1 >/dev/null
features describe >"$WORK/out"
shown group.version 0 1 1
shown share.version 0 1 1
shown streams.version 0 1 1
shown transaction.version 0 2 2
shown metadata.version 4.3-IV0 4.3-IV0 4.3-IV0
shown kraft.version 0 0 0
shown eligible.leader.replicas.version 0 0 0
before=$(epoch)
raised=$(transactions at2)
[ "$raised" -ge 2 ] || fail "the epoch is $raised after transactions of version 2"

refused 'Local controller 1 only supports versions 0-2' upgrade --feature transaction.version=3
refused 'Local controller 1 does not support this feature.' upgrade --feature kraft.version=1
refused 'Local controller 1 only supports versions 30' downgrade --metadata 4.2-IV1
features downgrade --feature transaction.version=0 --dry-run >"$WORK/out"
grep -qx 'transaction.version can be downgraded to 0.' "$WORK/out" || fail "$(cat "$WORK/out")"
features describe >"$WORK/out"
shown transaction.version 0 2 2

features downgrade --feature transaction.version=0 --feature group.version=0 >"$WORK/out"
grep -qx 'transaction.version was downgraded to 0.' "$WORK/out" || fail "$(cat "$WORK/out")"
features disable --feature share.version --feature streams.version >"$WORK/out"
grep -qx 'share.version was disabled.' "$WORK/out" || fail "$(cat "$WORK/out")"
features describe >"$WORK/out"
for f in group.version share.version streams.version; do shown $f 0 1 0; done
shown transaction.version 0 2 0
[ "$(epoch)" -gt "$before" ] || fail "the epoch went from $before to $(epoch)"
kept=$(transactions at0)
[ "$kept" = 0 ] || fail "the epoch is $kept after transactions of version 0"
refused "Can't downgrade to a newer version." downgrade --feature transaction.version=2

consume() { # consume PROTOCOL
  kafka $t.consumer.ConsoleConsumer --bootstrap-server "$BOOTSTRAP" --topic features --group "features-$1" --from-beginning --max-messages 60 --timeout-ms 20000 \
    --command-property group.protocol="$1" >"$WORK/records" 2>"$WORK/consumer" && [ "$(wc -l <"$WORK/records")" = 60 ]
}
consume classic || fail "classic: $(cat "$WORK/consumer")"
! consume consumer || fail 'the consumer protocol is off, yet it consumed'
features upgrade --feature group.version=1 --feature share.version=1 --feature streams.version=1 --feature transaction.version=2 >"$WORK/out"
consume consumer || fail "consumer: $(cat "$WORK/consumer")"
[ "$(transactions again)" -ge 2 ] || fail 'transaction.version is 2 again, but epochs do not rise'
echo "levels shown, refused, validated, lowered and raised; epochs of transactions $raised at 2, $kept at 0"
