# How a trial says what it saw. Sourced by the trials.
failed=0

# fact SENTENCE COMMAND…: the command must succeed. What it prints is shown only if it does not.
fact() {
  local sentence=$1 said status=0
  shift
  said=$("$@" 2>&1) || status=$?
  if [ "$status" -eq 0 ]; then
    echo "  ok  $sentence"
  else
    failed=$((failed + 1))
    echo "FAILED  $sentence: \`$*\` ended with exit code $status"
    [ -z "$said" ] || printf '%s\n' "$said" | sed 's/^/        /'
  fi
}

is() { [ "$1" = "$2" ] || { echo "it is \"$1\", not \"$2\""; return 1; }; }
not() { ! "$@"; }

# until_true SECONDS COMMAND…: waits for it.
until_true() {
  local limit=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$limit" ] || { echo "not so in time: $*"; "$@"; return 1; }
    sleep 0.1
  done
}

facts_end() {
  [ "$failed" -eq 0 ] && echo "all as it should be" || echo "$failed not as it should be"
  [ "$failed" -eq 0 ]
}

# block PAGE HEADING: the first block of commands under that heading of a page, as a reader copies it.
block() {
  awk -v heading="$2" '$0 == heading { in_part = 1 } in_part && /^```sh/ { in_block = 1; next } in_block && /^```/ { exit } in_block' "$1"
}
