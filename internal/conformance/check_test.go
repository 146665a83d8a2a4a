package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/conformance"
)

// worker is the code of a correct worker process in Perl. Each test case replaces BREAK by code that
// changes one property.
const worker = `
	use JSON::PP; my $json = JSON::PP->new->utf8->canonical->allow_nonref;
	open(my $s, "+<&=", $ENV{CTWORKER_FD}); open(my $c, "<&=", $ENV{CTWORKER_CLAIM_FD});
	my ($ready, $ahead, $claim, $exit, $echo, $strict) = ('{"ready":{"version":1,"ahead":true}}', 1, 1, 0, sub { $_[0] }, 0);
	my $reply = sub { $json->encode({task_id => $_[0], retry => JSON::PP::false, result => 1}) . "\n" };
	my $back = sub { $json->encode({task_id => $_[0], returned => JSON::PP::true}) . "\n" };
	my $n = 0;
	BREAK;
	readline($s); syswrite($s, "$ready\n");
	while (defined(my $line = readline($s))) {
		$n++;
		my $t = $json->decode($line);
		if (!$strict) { next if !defined $t->{task_id}; }
		my $id = $echo->($t->{task_id});
		if ($claim && (sysread($c, my $b, $claim) // 0) < 1) { syswrite($s, $back->($id)); next; }
		syswrite($s, $reply->($id));
	}
	exit $exit;`

func TestRun_FindsViolations(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, breaks string
		want         []string // texts in the findings; nil if the program passes
	}{
		{"correct", "", nil},
		{"correct without ahead", `$ready = '{"ready":{"version":1}}'; $claim = 0`, nil},
		{"exceptions", `$reply = sub { $json->encode({task_id => $_[0], exception => "no"}) . "\n" }`, nil},
		{"exits immediately", `die "no module named numpy\n"`, []string{"exit status", "no module named numpy"}},
		{"writes nothing", `sleep 1000`, []string{"wrote nothing to the socket"}},
		{"first line without ready", `$ready = '{"hello":1}'`, []string{`neither "task_id" nor "ready"`}},
		{"ready without version", `$ready = '{"ready":{}}'`, []string{`"version":1`}},
		{"another version", `$ready = '{"ready":{"version":2}}'`, []string{`"version":1`}},
		{"ready twice", `$reply = sub { "$ready\n" }`, []string{`second "ready"`}},
		{"reply that is not JSON", `$reply = sub { "Traceback\n" }`, []string{`"Traceback"`, "it is not a reply"}},
		{"reply that is not UTF-8", `$reply = sub { qq({"task_id":"x","result":"\xe9"}\n) }`, []string{"not UTF-8"}},
		{"both a result and an exception", `$reply = sub { $json->encode({task_id => $_[0], result => 1, exception => "no"}) . "\n" }`, []string{"at most one of them"}},
		{"reply without newline", `$reply = sub { '{"task_id":"x"' }`, []string{"without the newline"}},
		{"reply without task_id", `$reply = sub { '{"result":1}' . "\n" }`, []string{`neither "task_id" nor "ready"`}},
		{"reply with another task_id", `$echo = sub { "mine" }`, []string{`has the "task_id" "mine"`}},
		{"task_id with replaced characters", `$echo = sub { my $x = $_[0]; $x =~ s/[^\x20-\x7e]/?/g; $x }`, []string{"whatever characters", `has the "task_id"`}},
		{"reply without result", `$reply = sub { $json->encode({task_id => $_[0]}) . "\n" }`, nil},
		{"exit code 3", `$exit = 3`, []string{"exit with code 0"}},
		{"does not exit", `$SIG{ALRM} = sub {}; END { sleep 1000 }`, []string{"still running"}},
		{"unknown line causes a reply", `$strict = 1`, []string{"ignores unknown"}},
		{"exits during a task", `$reply = sub { exit 0 }`, []string{"closed its socket"}},
		{"runs revoked tasks", `$claim = 0`, []string{"was revoked"}},
		{"claims several tasks at once", `$claim = 64`, []string{"read 4 bytes"}},
		{"returns a claimed task", `$reply = $back`, []string{`unstarted, although`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var text strings.Builder
			timeout := time.Minute // JSON::PP takes seconds to parse a megabyte on a busy machine
			if strings.Contains(tc.breaks, "sleep") || tc.name == "reply without newline" {
				timeout = 300 * time.Millisecond
			}
			n := 0
			passed, err := conformance.Run([]string{"perl", "-e", strings.Replace(worker, "BREAK", tc.breaks, 1)}, timeout, func(f conformance.Finding) {
				n++
				if f.Err != nil {
					text.WriteString(f.Case + ": " + f.Err.Error() + "\n")
				}
			})
			if err != nil || n < 9 {
				t.Fatalf("%d findings, error %v", n, err)
			}
			if passed != (tc.want == nil) {
				t.Errorf("passed: %v\n%s", passed, text.String())
			}
			for _, want := range tc.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("no finding contains %q:\n%s", want, text.String())
				}
			}
		})
	}
}

func TestRun_ReturnsErrorIfProgramCannotBeStarted(t *testing.T) {
	t.Parallel()
	if _, err := conformance.Run([]string{"/nonexistent"}, time.Second, func(conformance.Finding) {}); err == nil {
		t.Error("no error")
	}
}

// Check a program that does not implement the protocol.
func Example() {
	passed, err := conformance.Run([]string{"true"}, 10*time.Second, func(conformance.Finding) {})
	fmt.Println(passed, err)
	// Output: false <nil>
}
