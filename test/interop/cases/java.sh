# Apache Kafka's own tools as clients: topics, console producer and consumer, groups, offsets, configs, records deleted.
set -euo pipefail
. test/interop/lib.sh
t=org.apache.kafka.tools
kafka $t.TopicCommand --bootstrap-server "$BOOTSTRAP" --create --topic java --partitions 3 --config retention.ms=86400000 >"$WORK/out"
kafka $t.TopicCommand --bootstrap-server "$BOOTSTRAP" --describe --topic java >"$WORK/out"
grep -q 'PartitionCount: 3' "$WORK/out" && grep -q 'retention.ms=86400000' "$WORK/out" || fail "$(cat "$WORK/out")"
seq 1 20000 | awk '{print "k" $1 ":line " $1}' >"$WORK/in"
kafka $t.ConsoleProducer --bootstrap-server "$BOOTSTRAP" --topic java --reader-property parse.key=true --reader-property key.separator=: <"$WORK/in" >/dev/null
kafka $t.consumer.ConsoleConsumer --bootstrap-server "$BOOTSTRAP" --topic java --group java-group --from-beginning --max-messages 20000 --timeout-ms 30000 \
  --formatter-property print.key=true --formatter-property key.separator=: | sort >"$WORK/back"
sort "$WORK/in" | cmp - "$WORK/back"
kafka $t.consumer.group.ConsumerGroupCommand --bootstrap-server "$BOOTSTRAP" --describe --group java-group >"$WORK/out"
awk '/^java-group/ {committed += $4; lag += $6} END {exit !(committed == 20000 && lag == 0)}' "$WORK/out" || fail "$(cat "$WORK/out")"
kafka $t.consumer.group.ConsumerGroupCommand --bootstrap-server "$BOOTSTRAP" --group java-group --topic java --reset-offsets --to-earliest --execute >"$WORK/out"
kafka $t.consumer.group.ConsumerGroupCommand --bootstrap-server "$BOOTSTRAP" --describe --group java-group >"$WORK/out"
awk '/^java-group/ {lag += $6} END {exit !(lag == 20000)}' "$WORK/out" || fail "$(cat "$WORK/out")"
kafka $t.GetOffsetShell --bootstrap-server "$BOOTSTRAP" --topic java >"$WORK/out"
awk -F: '{n += $3} END {exit !(n == 20000)}' "$WORK/out" || fail "$(cat "$WORK/out")"
echo '{"partitions": [{"topic": "java", "partition": 0, "offset": 10}], "version": 1}' >"$WORK/delete.json"
kafka $t.DeleteRecordsCommand --bootstrap-server "$BOOTSTRAP" --offset-json-file "$WORK/delete.json" >"$WORK/out"
kafka $t.GetOffsetShell --bootstrap-server "$BOOTSTRAP" --topic-partitions java:0 --time -2 >"$WORK/out"
grep -q 'java:0:10' "$WORK/out" || fail "$(cat "$WORK/out")"
kafka kafka.admin.ConfigCommand --bootstrap-server "$BOOTSTRAP" --entity-type topics --entity-name java --alter --add-config segment.bytes=2097152 >/dev/null
kafka kafka.admin.ConfigCommand --bootstrap-server "$BOOTSTRAP" --entity-type topics --entity-name java --describe >"$WORK/out"
grep -q 'segment.bytes=2097152' "$WORK/out" || fail "$(cat "$WORK/out")"
kafka $t.TopicCommand --bootstrap-server "$BOOTSTRAP" --delete --topic java >/dev/null
kafka $t.TopicCommand --bootstrap-server "$BOOTSTRAP" --list >"$WORK/out"
! grep -qx java "$WORK/out" || fail "java is still listed"
echo "20,000 records with the Java tools: topics, console clients, groups, offsets, configs"
