# The Java clients of Apache Kafka under kills, pauses and a failing network, and what they saw held against itself (test/chaos). Then the
# same with bugs planted, which must be reported by the name of their anomaly.
set -euo pipefail
. test/interop/lib.sh
export HISTORY_JAVA
HISTORY_JAVA=$(maven_libs kafka)

# histories TAGS TESTS: the tests, of a build with these tags, into $WORK/log.
histories() {
  go test -count=1 -v -tags "$1" -run "^($2)\$" ./test/chaos >"$WORK/log" 2>&1
}

tests='TestJavaQueueHistories|TestJavaTransactionHistories'
PROVE_BINARY=$OTTLA histories '' "$tests" || fail "$(tail -n 60 "$WORK/log")"
[ "$(grep -c '^--- PASS' "$WORK/log")" = 2 ] || fail "the histories were not run: $(cat "$WORK/log")"
held=$(sed -n 's/.*: held *//p' "$WORK/log" | tr -s ' ' | paste -sd ';')

go build -tags plant -o "$WORK/planted" ./cmd/ottla >&2
export PROVE_BINARY=$WORK/planted SEED=1 TMPDIR=$WORK # histories of failed tests are kept there
caught() { # caught BUG ANOMALY TEST
  if OTTLA_PLANT=$1 histories plant "$3"; then fail "$1 is not caught"; fi
  grep -q "anomalies: .*$2" "$WORK/log" || fail "$1 is not reported as $2: $(tail -n 60 "$WORK/log")"
}
caught accept-duplicates duplicate TestJavaQueueHistories
caught hide-aborts aborted-read TestJavaTransactionHistories
caught read-open precommitted-read TestJavaTransactionHistories
echo "$held; 3 planted bugs caught"
