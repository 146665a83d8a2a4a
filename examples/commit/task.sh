#!/bin/sh
# A task that does not begin to write when the machine is about to be taken away:
# ctworker run --task-file tasks.json --simulate-spot-termination-after 2 -- sh task.sh
set -eu
sleep 1 # the work; nothing is written meanwhile
if [ -e "$CTWORKER_TERMINATION_FILE" ]; then
    echo "the machine is about to be taken away: nothing was written"
    exit 75 # to be retried, elsewhere
fi
name=$(basename -- "$CTWORKER_TASK_ID").result
echo "the result" > "$name.part" # so that nobody ever sees half a file
mv -- "$name.part" "$name"
echo written
