# A steady load on the shop, and what became of it. Sourced by the trials, which set `work` (a folder) and `url`.

# Small requests on kept connections, on new ones, POSTs, and answers that take three seconds. One line a request: its code and
# what arrived.
load_start() {
  rm -rf "$work/load"
  mkdir -p "$work/load"
  # By lines: what is kept back in a buffer is lost at the end.
  local each=(stdbuf -oL curl -s -o /dev/null --max-time 30 -w '%{http_code} %{size_download} %{errormsg}\n' -H 'Host: shop.example.com')
  loads=()
  "${each[@]}" --rate 40/s "$url/?[1-1000000]" >"$work/load/kept" & loads+=($!)
  "${each[@]}" --rate 20/s -H 'Connection: close' "$url/?[1-1000000]" >"$work/load/new" & loads+=($!)
  "${each[@]}" --rate 20/s -d order=1 "$url/orders?[1-1000000]" >"$work/load/posts" & loads+=($!)
  local lane
  for lane in 1 2 3 4; do
    (trap 'exit 0' TERM; while :; do "${each[@]}" "$url/slow" >>"$work/load/slow$lane"; sleep 0.2; done) & loads+=($!)
  done
}

# Ends it, and sets `ended` to how it went.
load_end() {
  kill "${loads[@]}" 2>/dev/null || true
  wait "${loads[@]}" 2>/dev/null || true
  local all slow
  all=$(cat "$work"/load/* | wc -l) slow=$(cat "$work"/load/slow* | wc -l)
  wrong=$(awk '$1 != 200 || (FILENAME ~ /slow/ && $2 != 3000) { print FILENAME, $0 }' "$work"/load/* | sort | uniq -c)
  ended="$all requests, $slow of them answers of 3 s, $(printf %s "$wrong" | awk '{ all += $1 } END { print all + 0 }') failed"
  enough=$((all > 500 && slow > 10))
}
load_was_good() {
  printf '%s\n' "$wrong"
  [ -z "$wrong" ] && [ "$enough" = 1 ]
}
