# Shared by the interoperability cases. A case is a script that gets BOOTSTRAP (a fresh broker's HOST:PORT), OTTLA (the binary), WORK (a
# folder of its own that is removed afterwards) and CACHE (kept between runs), prints one line of detail and exits 0, or fails.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# maven_libs PROJECT prints the class path of the folder PROJECT's pom.xml, fetched once.
maven_libs() {
  local libs=$CACHE/$1-libs
  if [ ! -e "$libs/.done" ]; then
    mvn -q -B -f "$here/$1/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" >&2
    touch "$libs/.done"
  fi
  echo "$libs/*"
}

# kafka CLASS ARGS...: one of Apache Kafka's tools.
kafka() {
  local class=$1
  shift
  java -Xmx512m -Dlog4j2.level=ERROR -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$(maven_libs kafka)" "$class" "$@" 2>"$WORK/java.log" ||
    { cat "$WORK/java.log" >&2; return 1; }
}

# start_broker DATA LISTEN [key=value...]: runs $OTTLA in the background; its process id is in broker_pid.
start_broker() {
  local data=$1 listen=$2 settings=()
  shift 2
  for s in "$@"; do settings+=(--set "$s"); done
  "$OTTLA" serve --data "$data" --listen "$listen" "${settings[@]}" >>"$WORK/broker.log" 2>&1 &
  broker_pid=$!
  for _ in $(seq 500); do
    (exec 3<>"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null && return 0
    kill -0 "$broker_pid" 2>/dev/null || break
    sleep 0.02
  done
  echo "the broker did not start:" >&2
  cat "$WORK/broker.log" >&2
  return 1
}

# stop_broker ends what start_broker started, cleanly, and waits for it.
stop_broker() {
  [ -n "${broker_pid:-}" ] || return 0
  kill "$broker_pid" 2>/dev/null || true
  wait "$broker_pid" 2>/dev/null || true
  broker_pid=
}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

fail() {
  echo "$*" >&2
  exit 1
}
