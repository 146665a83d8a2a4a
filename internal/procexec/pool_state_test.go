package procexec

import (
	"fmt"
	"strings"
	"testing"
)

// Each event leads from each state to the next state in this table. "-" means that the event is
// impossible in the state.
func TestTransitions(t *testing.T) {
	t.Parallel()
	const table = `
event       launching starting    ready    busy        returning retiring    terminating killed gone
launched    starting  -           -        -           -         -           -           -      -
forked      ready     -           -        -           -         -           -           -      -
reported    -         ready       -        -           -         -           terminating killed -
sent        -         -           busy     busy        -         -           -           -      -
replied     -         -           -        ready       -         retiring    terminating killed -
mustReturn  -         -           -        returning   -         retiring    terminating killed -
returned    -         -           -        -           ready     retiring    terminating killed -
closed      -         retiring    retiring retiring    retiring  -           terminating killed -
terminated  -         terminating -        terminating -         terminating -           -      -
sigkilled   -         killed      killed   killed      killed    killed      killed      killed -
ended       gone      gone        gone     gone        gone      gone        gone        gone   -`
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if states := strings.Fields(lines[0])[1:]; len(states) != int(numStates) || len(lines) != int(numEvents)+1 {
		t.Fatalf("the table has %d states and %d events, want %d and %d", len(states), len(lines)-1, numStates, numEvents)
	}
	for e := range numEvents {
		row := strings.Fields(lines[e+1])
		if row[0] != e.String() {
			t.Fatalf("row %d is for event %q, want %q", e, row[0], e)
		}
		for s := range numStates {
			got, failure := next(s, e)
			if want := row[s+1]; want == "-" {
				if text := fmt.Sprintf("event %q is impossible in state %q", e, s); !strings.Contains(failure, text) {
					t.Errorf("event %q in state %q: next state %q, panic %q; want a panic with %q", e, s, got, failure, text)
				}
			} else if got != want {
				t.Errorf("event %q in state %q: next state %q, want %q", e, s, got, want)
			}
		}
	}
}

// next returns the name of the next state. If the event is impossible, next returns the text of the
// panic.
func next(s procState, e procEvent) (name, failure string) {
	defer func() {
		if p := recover(); p != nil {
			failure = fmt.Sprint(p)
		}
	}()
	return s.next(e).String(), ""
}
