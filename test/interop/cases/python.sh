# confluent-kafka for Python (librdkafka): see ../python/case.py.
set -euo pipefail
. test/interop/lib.sh
if [ ! -e "$CACHE/python/.done" ]; then
  python3 -m venv "$CACHE/python" >&2
  "$CACHE/python/bin/pip" install -q confluent-kafka==2.16.1 >&2
  touch "$CACHE/python/.done"
fi
"$CACHE/python/bin/python" "$here/python/case.py"
