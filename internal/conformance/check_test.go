package conformance_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/conformance"
)

// worker is a good worker in Perl, which reads and writes as $read and $write say;
// each broken one differs in one thing.
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

func TestFindings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, breaks string
		want         []string // in the findings; nothing: all is well
	}{
		{"a good one", "", nil},
		{"a good one that takes nothing ahead", `$ready = '{"ready":{"version":1}}'; $claim = 0`, nil},
		{"exceptions", `$reply = sub { $json->encode({task_id => $_[0], exception => "no"}) . "\n" }`, nil},
		{"it dies at once", `die "no module named numpy\n"`, []string{"exit status", "no module named numpy"}},
		{"it says nothing", `sleep 1000`, []string{"wrote nothing to the socket"}},
		{"no ready", `$ready = '{"hello":1}'`, []string{`has no "ready"`}},
		{"no version", `$ready = '{"ready":{}}'`, []string{`"version":1`}},
		{"another version", `$ready = '{"ready":{"version":2}}'`, []string{`"version":1`}},
		{"ready twice", `$reply = sub { "$ready\n" }`, []string{"a second time"}},
		{"rubbish", `$reply = sub { "Traceback\n" }`, []string{`"Traceback\n"`, "no line of the protocol"}},
		{"no UTF-8", `$reply = sub { qq({"task_id":"x","result":"\xe9"}\n) }`, []string{"not UTF-8"}},
		{"both a result and an exception", `$reply = sub { $json->encode({task_id => $_[0], result => 1, exception => "no"}) . "\n" }`, []string{"one of them"}},
		{"no newline", `$reply = sub { '{"task_id":"x"' }`, []string{"without the newline"}},
		{"no id", `$reply = sub { '{"result":1}' . "\n" }`, []string{`has no "task_id"`}},
		{"the wrong id", `$echo = sub { "mine" }`, []string{`names task "mine"`}},
		{"an id that is not escaped", `$echo = sub { my $x = $_[0]; $x =~ s/[^\x20-\x7e]/?/g; $x }`, []string{"whatever that holds", "names task"}},
		{"no result, which is null", `$reply = sub { $json->encode({task_id => $_[0]}) . "\n" }`, nil},
		{"an exit code", `$exit = 3`, []string{"exit with code 0"}},
		{"it never ends", `$SIG{ALRM} = sub {}; END { sleep 1000 }`, []string{"still runs"}},
		{"it trips over what it does not know", `$strict = 1`, []string{"does not know"}},
		{"it ends after a task", `$reply = sub { exit 0 }`, []string{"closed its socket"}},
		{"it runs what is taken back", `$claim = 0`, []string{"was taken back"}},
		{"it claims too much", `$claim = 64`, []string{"4 bytes are gone"}},
		{"it returns what is its own", `$reply = $back`, []string{`"returned", though`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var text strings.Builder
			timeout := 10 * time.Second
			if strings.Contains(tc.breaks, "sleep") || tc.name == "no newline" {
				timeout = 300 * time.Millisecond
			}
			n := 0
			fine, err := conformance.Run([]string{"perl", "-e", strings.Replace(worker, "BREAK", tc.breaks, 1)}, timeout, func(f conformance.Finding) {
				n++
				if f.Err != nil {
					text.WriteString(f.Case + ": " + f.Err.Error() + "\n")
				}
			})
			if err != nil || n < 9 {
				t.Fatalf("%d findings, error %v", n, err)
			}
			if fine != (tc.want == nil) {
				t.Errorf("fine: %v\n%s", fine, text.String())
			}
			for _, want := range tc.want {
				if !strings.Contains(text.String(), want) {
					t.Errorf("nothing says %q:\n%s", want, text.String())
				}
			}
		})
	}
}

func TestCannotBeStarted(t *testing.T) {
	t.Parallel()
	if _, err := conformance.Run([]string{"/nonexistent"}, time.Second, func(conformance.Finding) {}); err == nil {
		t.Error("no error")
	}
}
