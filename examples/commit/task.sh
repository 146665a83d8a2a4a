#!/bin/sh
# A task that does not write its result after a termination notice:
# ctworker run --task-file tasks.json --simulate-spot-termination-after 2 -- sh task.sh
set -eu
sleep 1 # simulates the work, which must not write anything
if [ -e "$CTWORKER_TERMINATION_FILE" ]; then
    echo "termination notice received: nothing was written"
    exit 75 # requests a retry, on another machine
fi
name=$(basename -- "$CTWORKER_TASK_ID").result
echo "the result" > "$name.part" # renamed when complete: readers never see a part of the result
mv -- "$name.part" "$name"
echo written
