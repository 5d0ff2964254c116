# kafkajs on Node: see ../kafkajs/case.js.
set -euo pipefail
. test/interop/lib.sh
if [ ! -e "$CACHE/kafkajs/.done" ]; then
  mkdir -p "$CACHE/kafkajs"
  (cd "$CACHE/kafkajs" && echo '{"private": true}' >package.json && npm install --silent kafkajs@2.2.4 >&2)
  touch "$CACHE/kafkajs/.done"
fi
NODE_PATH=$CACHE/kafkajs/node_modules KAFKAJS_NO_PARTITIONER_WARNING=1 node "$here/kafkajs/case.js"
