# Apache Flink's exactly-once source and sink: two jobs in a row, ../flink/RunningCount.java, one for each way in which the sink names its
# transactions. The first counts the records of `in` by key into `mid`, the second those of `mid` into `out`. Each job fails by itself, is
# killed with SIGKILL while its transactions are open, and killed together with the broker between a checkpoint and the commit of its
# transactions: the process that goes on from the checkpoint resumes them, with the producer id and epoch of its predecessor. Who reads
# committed records sees in both topics each record once, and the counts of each key rise by one.
set -euo pipefail
. test/interop/lib.sh
libs=$(maven_libs flink)
javac -nowarn -cp "$libs" -d "$WORK/classes" "$here/flink/RunningCount.java"

port=$(free_port)
declare -A app_pid=() naming=([mid]=INCREMENTING [out]=POOLING)
others=()
stop_all() {
  for pid in "${app_pid[@]}" "${others[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  stop_broker
}
trap stop_all EXIT

# File descriptor 5 is what the producer reads, and ends for it only if nobody else has it.
broker() { start_broker "$WORK/flink-data" "127.0.0.1:$port" num.partitions=4 group.initial.rebalance.delay.ms=0 5>&-; }

# app OUT starts the job that writes to OUT; what it prints is added to $WORK/OUT/log.
app() {
  local in=in
  [ "$1" = mid ] || in=mid
  java -Xmx320m -XX:TieredStopAtLevel=1 -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -Dorg.slf4j.simpleLogger.log.org.apache.flink.metrics=error -Dorg.slf4j.simpleLogger.log.org.apache.flink.connector.kafka.sink=info \
    -cp "$WORK/classes:$libs" RunningCount "127.0.0.1:$port" "${naming[$1]}" "$WORK/$1" $in "$1" >>"$WORK/$1/log" 2>&1 5>&- &
  app_pid[$1]=$!
}

# killed PID...: SIGKILL, and the processes are gone.
killed() {
  kill -9 "$@"
  wait "$@" 2>/dev/null || true
}

# reading TOPIC ISOLATION sets kcat to the command that prints a topic's keys and values.
reading() {
  kcat=(kcat -b "127.0.0.1:$port" -C -E -t "$1" -o beginning -q -u -f '%k %s\n' -X reconnect.backoff.max.ms=100 -X "isolation.level=read_$2")
}

lines() { wc -l <"$WORK/$1"; }

# until_so CONDITION...: waits for it. Meanwhile, while feeding, ten records at a time go in, of some fifty keys, not too far ahead of what
# comes out. They make up more than a kilobyte: kcat takes less only at the end.
fed=0 feeding=yes
until_so() {
  local t end=$((SECONDS + 60))
  while ! "$@"; do
    for t in mid out; do kill -0 "${app_pid[$t]}" 2>/dev/null || fail "a job ended by itself: $(tail -n 40 "$WORK/$t/log")"; done
    [ $SECONDS -lt $end ] ||
      fail "waited in vain: $*. $fed records went in; $(wc -l "$WORK"/{mid,out}/{committed,uncommitted} | paste -sd ';'). $(tail -n 20 "$WORK"/{mid,out}/log)"
    if [ $feeding = yes ] && [ $((fed - $(lines mid/committed))) -lt 400 ]; then
      for _ in 1 2 3 4 5 6 7 8 9 10; do
        fed=$((fed + 1))
        printf 'k%d\t%0100d\n' $((fed * fed % 101)) $fed
      done >>"$WORK/records"
      tail -n 10 "$WORK/records" >&5
    fi
    sleep 0.05
  done
}

# The conditions. open OUT N: N more counts than at the last call of mark are committed, and transactions hold more that are not.
mark() { base=$(lines "$1/committed") seen=$base written=$(lines "$1/uncommitted"); }
open() {
  local committed
  committed=$(lines "$1/committed")
  if [ "$committed" -ne "$seen" ]; then
    seen=$committed written=$(lines "$1/uncommitted")
    return 1
  fi
  [ $((committed - base)) -ge "$2" ] && [ $(($(lines "$1/uncommitted") - written)) -ge 10 ]
}
restores() { grep -c '^restored from' "$WORK/$1/log"; }
restored() { [ "$(restores "$1")" -ge "$2" ]; } # restored OUT TIMES: subtasks, of which there are two
held() { # held OUT: a checkpoint is held, and both subtasks have come to it
  checkpoint=$(sed -n 's/^holding //p' "$WORK/$1/log" | tail -n 1)
  [ "$(grep -c "^snapshot $checkpoint\$" "$WORK/$1/log")" -eq 2 ]
}
completed() { compgen -G "$WORK/$1/checkpoints/*/chk-$2/_metadata" >/dev/null; }
resumed() { [ "$(resumes "$1")" -gt "$2" ]; }
resumes() { grep -c 'Attempting to resume transaction' "$WORK/$1/log"; }
all_committed() { [ "$(lines mid/committed)" -ge $fed ] && [ "$(lines out/committed)" -ge $fed ]; }
until_open() {
  mark "$1"
  until_so open "$@"
}

# until_restored OUT COMMAND...: has the command make the job begin anew, and waits until it goes on from a checkpoint.
until_restored() {
  local times
  times=$(restores "$1") || true
  "${@:2}"
  until_so restored "$1" $((times + 2))
}

broker
for t in in mid out; do "$OTTLA" topic create $t --partitions 4 --bootstrap-server "127.0.0.1:$port" >/dev/null; done
mkfifo "$WORK/feed"
kcat -b "127.0.0.1:$port" -P -E -t in -K '\t' -X enable.idempotence=true -X reconnect.backoff.max.ms=100 <"$WORK/feed" 2>"$WORK/producer" &
producer=$!
others+=($producer)
exec 5>"$WORK/feed"
for t in mid out; do
  mkdir "$WORK/$t"
  for isolation in committed uncommitted; do
    : >"$WORK/$t/$isolation"
    reading $t $isolation
    "${kcat[@]}" >"$WORK/$t/$isolation" 2>/dev/null 5>&- &
    others+=($!)
  done
  app $t
done

until_open out 1
for t in mid out; do until_restored $t touch "$WORK/$t/fail"; done
for t in mid out; do
  until_open $t 50
  killed "${app_pid[$t]}"
  until_restored $t app $t
done
until_open out 50
killed "$broker_pid"
broker
until_open out 50
declare -A newest=() before=()
for t in out mid; do # while mid is held nothing comes to out, and a transaction without records is not there to be resumed
  touch "$WORK/$t/hold"
  until_so held $t
  newest[$t]=$checkpoint before[$t]=$(resumes $t) || true
done
killed "$broker_pid"
rm "$WORK"/{mid,out}/hold
for t in mid out; do until_so completed $t "${newest[$t]}"; done
killed "${app_pid[@]}"
broker
for t in mid out; do app $t; done
for t in mid out; do until_so resumed $t "${before[$t]}"; done
until_open out 50
feeding=no
exec 5>&-
wait $producer || fail "the producer: $(cat "$WORK/producer")"
until_so all_committed

# The source goes by the offsets in its checkpoints; with each it commits them to its group as well, to be seen there.
consumed() {
  kafka org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "127.0.0.1:$port" --describe --group mid >"$WORK/group"
  [ "$(awk '$2 == "in" {n += $4; lag += $6} END {print n + lag * 1000000}' "$WORK/group")" = $fed ]
}
until_so consumed
killed "${app_pid[@]}"

awk '{print $1, ++n[$1], $2}' "$WORK/records" | sort >"$WORK/mid/expected"
awk '{print $1, $2, $2, $3}' "$WORK/mid/expected" >"$WORK/out/expected"
detail="$fed records"
for t in mid out; do
  reading $t committed
  "${kcat[@]}" -e >"$WORK/$t/counts"
  awk '$2 != n[$1] + 1 {print "after", $1, n[$1] + 0, "comes", $2} {n[$1] = $2}' "$WORK/$t/counts" >"$WORK/$t/wrong"
  [ ! -s "$WORK/$t/wrong" ] || fail "$t: $(wc -l <"$WORK/$t/wrong") counts are not one more than the one before: $(head -n 3 "$WORK/$t/wrong")"
  sort "$WORK/$t/counts" | diff - "$WORK/$t/expected" >&2 || fail "$t: the counts are wrong"
  reading $t uncommitted
  aborted=$(($("${kcat[@]}" -e | wc -l) - fed))
  [ $aborted -gt 0 ] || fail "$t: no transaction was aborted: the kills found nothing half done"
  detail+="; ${naming[$t]}: $aborted counts aborted"
done
echo "$detail"
