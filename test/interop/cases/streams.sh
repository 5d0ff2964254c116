# Kafka Streams counts words with exactly_once_v2, as members of a classic group and of a streams group (KIP-1071): see
# ../streams/WordCount.java. The application and the broker are killed with SIGKILL while transactions are open, and once the
# application's state is deleted too, so that it comes back from the changelog. Who reads committed records sees the counts of each word
# rise by one, without a repeat or a gap, to the number that awk counts.
set -euo pipefail
. test/interop/lib.sh
libs=$(maven_libs streams)
javac -cp "$libs" -d "$WORK/classes" "$here/streams/WordCount.java"

# 2,000 lines of 4 words each, most words rare, each line with a key that places it.
lines=2000
awk -v lines=$lines 'BEGIN {
  x = 1
  for (line = 1; line <= lines; line++) {
    printf "%d\t", line
    for (i = 1; i <= 4; i++) {
      x = x * 16807 % 2147483647
      printf "%sw%d", (i > 1 ? " " : ""), int((x / 2147483647) ^ 2 * 300)
    }
    print ""
  }
}' >"$WORK/lines"
cut -f 2 "$WORK/lines" | tr ' ' '\n' | awk '{n[$1]++} END {for (w in n) print w, n[w]}' | sort >"$WORK/expected"
words=$((lines * 4))

port=$(free_port)
app_pid='' readers=()
stop_all() {
  for pid in $app_pid "${readers[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  stop_broker
}
trap stop_all EXIT

broker() {
  start_broker "$WORK/count-data" "127.0.0.1:$port" num.partitions=4 \
    group.initial.rebalance.delay.ms=0 group.min.session.timeout.ms=5000 \
    group.streams.min.session.timeout.ms=5000 group.streams.session.timeout.ms=5000 \
    group.streams.min.heartbeat.interval.ms=500 group.streams.heartbeat.interval.ms=500 group.streams.initial.rebalance.delay.ms=0 \
    transaction.abort.timed.out.transaction.cleanup.interval.ms=500
}

# app starts the application; what it prints is added to $dir/app.log.
app() {
  java -Xmx256m -cp "$WORK/classes:$libs" WordCount "127.0.0.1:$port" "$protocol" "count-$protocol" "$dir/state" "in-$protocol" "out-$protocol" \
    >>"$dir/app.log" 2>&1 &
  app_pid=$!
}

# killed PID: SIGKILL, and the process is gone.
killed() {
  kill -9 "$1"
  wait "$1" 2>/dev/null || true
}

# feed N: the next N lines go in.
feed() {
  sed -n "$((fed + 1)),$((fed + $1))p" "$WORK/lines" | kcat -b "127.0.0.1:$port" -P -t "in-$protocol" -K '\t'
  fed=$((fed + $1))
}

# look sets committed and all to how many counts the two readers have.
look() {
  kill -0 "$app_pid" 2>/dev/null || fail "the application ended by itself: $(cat "$dir/app.log")"
  all=$(wc -l <"$dir/all")
  committed=$(wc -l <"$dir/committed")
}

# until_open N: feeds lines, some ahead of what is committed, until N counts are committed and transactions hold more that are still open.
until_open() {
  local seen=-1 then
  for _ in $(seq 1200); do
    [ $((fed * 4 - committed)) -ge 400 ] || feed 50
    look
    if [ "$committed" -ne $seen ]; then
      seen=$committed then=$all
    elif [ "$committed" -ge "$1" ] && [ $((all - then)) -ge 10 ]; then
      return 0
    fi
    sleep 0.05
  done
  fail "no open transaction was seen behind count $1: $committed counts of $((fed * 4)) are committed, $all written. $(cat "$dir/app.log")"
}

# until_committed N: waits until N counts are committed.
until_committed() {
  for _ in $(seq 1200); do
    look
    [ "$committed" -lt "$1" ] || return 0
    sleep 0.05
  done
  fail "$committed counts are committed, $1 were awaited. $(cat "$dir/app.log")"
}

count() {
  protocol=$1 dir=$WORK/$1 fed=0 committed=0
  mkdir -p "$dir"
  for t in in out; do "$OTTLA" topic create "$t-$protocol" --partitions 4 --bootstrap-server "127.0.0.1:$port" >/dev/null; done
  local read_out=(kcat -b "127.0.0.1:$port" -C -E -t "out-$protocol" -o beginning -q -f '%k %s\n' -X reconnect.backoff.max.ms=100)
  "${read_out[@]}" -X isolation.level=read_committed -u >"$dir/committed" 2>/dev/null &
  readers+=($!)
  "${read_out[@]}" -X isolation.level=read_uncommitted -u >"$dir/all" 2>/dev/null &
  readers+=($!)

  app
  until_open 1
  killed "$app_pid"
  app
  until_open $((words / 10))
  killed "$broker_pid"
  broker
  until_open $((words / 5))
  killed "$app_pid"
  rm -r "$dir/state"
  : >"$dir/app.log"
  app
  feed $((lines - fed))
  until_committed "$words"
  kill "$app_pid"
  wait "$app_pid" || [ $? -eq 143 ] || fail "the application did not end well: $(tail -n 20 "$dir/app.log")"

  restored=$(awk '/^restored/ {n += $2} END {print n + 0}' "$dir/app.log")
  [ "$restored" -ge $((words / 5)) ] || fail "only $restored records were restored from the changelog: $(cat "$dir/app.log")"
  "${read_out[@]}" -X isolation.level=read_committed -e >"$dir/counts"
  awk '$2 != n[$1] + 1 {print "after", $1, n[$1] + 0, "comes", $2} {n[$1] = $2}' "$dir/counts" >"$dir/wrong"
  [ ! -s "$dir/wrong" ] || fail "$protocol: $(wc -l <"$dir/wrong") counts are not one more than the one before: $(head -n 3 "$dir/wrong")"
  awk '{n[$1] = $2} END {for (w in n) print w, n[w]}' "$dir/counts" | sort | cmp - "$WORK/expected" || fail "$protocol: the last counts are wrong"
  aborted=$(($("${read_out[@]}" -X isolation.level=read_uncommitted -e | wc -l) - words))
  [ "$aborted" -gt 0 ] || fail "no transaction was aborted: the kills found nothing half done"
  detail+="; $protocol: $aborted counts aborted, $restored restored"
}

detail="$words words"
broker
for p in classic streams; do count $p; done
echo "$detail"
