# kcat (librdkafka): keys, headers, every codec, offsets by time, metadata, a consumer group that resumes.
set -euo pipefail
k() { timeout 60 kcat -b "$BOOTSTRAP" "$@"; }
records() { seq "$1" "$2" | awk '{print "key-" $1 % 97 "\tvalue number " $1}'; }
records 1 5000 >"$WORK/in"
for codec in none gzip snappy lz4 zstd; do
  k -P -t "kcat-$codec" -K '\t' -z "$codec" -H "codec=$codec" <"$WORK/in"
  k -C -t "kcat-$codec" -o beginning -e -q -f '%k\t%s\n' | sort >"$WORK/out"
  sort "$WORK/in" | cmp - "$WORK/out"
  [ "$(k -C -t "kcat-$codec" -o beginning -c 1 -q -f '%h')" = "codec=$codec" ]
done
k -G kcat-group -X auto.offset.reset=earliest -c 5000 -q -K '\t' kcat-none 2>/dev/null | sort | cmp - <(sort "$WORK/in")
records 5001 5010 | k -P -t kcat-none -K '\t'
k -G kcat-group -X auto.offset.reset=earliest -c 10 -q -K '\t' kcat-none 2>/dev/null | sort | cmp - <(records 5001 5010 | sort)
echo first | k -P -t kcat-times -p 0
between=$(k -C -t kcat-times -p 0 -o beginning -c 1 -q -f '%T')
until [ "$(date +%s%3N)" -gt "$((between + 2))" ]; do :; done
now=$(date +%s%3N)
printf 'second\nthird\n' | k -P -t kcat-times -p 0
[ "$(k -Q -t "kcat-times:0:$now" | grep -o '[-0-9]*$')" = 1 ]
[ "$(k -C -t kcat-times -p 0 -o "s@$now" -e -q | paste -sd ' ')" = "second third" ]
k -L -J -t kcat-none | python3 -c 'import json, sys; m = json.load(sys.stdin); assert len(m["topics"][0]["partitions"]) == 4 and m["brokers"], m'
echo "5 codecs, group of 5,010 records, times, metadata"
