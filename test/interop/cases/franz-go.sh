# The tests of the franz-go client itself (package kgo, the version in go.mod).
set -euo pipefail
. test/interop/lib.sh
package=github.com/twmb/franz-go/pkg/kgo
go test -c -o "$WORK/kgo.test" $package >&2
cd "$(go list -f '{{.Dir}}' $package)" # some tests read the package's own files
KGO_SEEDS=$BOOTSTRAP KGO_TEST_RF=1 KGO_TEST_RECORDS=50000 KGO_TEST_UNSAFE=1 KGO_LOG_LEVEL=none \
  "$WORK/kgo.test" -test.v -test.timeout=280s >"$WORK/log" 2>&1 || {
  grep -E '^(=== RUN|panic:)|--- FAIL' "$WORK/log" | grep -E -- '--- FAIL|panic:' >&2
  tail -n 20 "$WORK/log" >&2
  fail "the tests of kgo failed"
}
echo "$(grep -c '^--- PASS' "$WORK/log") tests of the client passed"
