package config_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/config"
)

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args, fixed string
		faults            []string
	}{
		{name: "nothing"},
		{name: "flags and a command", args: "--max-runtime 5 --verbose -- cmd -x", fixed: "--max-runtime 5 --verbose -- cmd -x"},
		{name: "stops at --", args: "--verbose -- --nonsense -j4 --", fixed: "--verbose -- --nonsense -j4 --"},
		{name: "stops at an argument", args: "--verbose cmd --nonsense -j4", fixed: "--verbose cmd --nonsense -j4"},
		{name: "a boolean takes no value", args: "--verbose true --nonsense", fixed: "--verbose true --nonsense"},
		{name: "stops at a lone dash", args: "- --nonsense", fixed: "- --nonsense"},
		{name: "one dash", args: "-max-runtime 5 -no-is-spot cmd", fixed: "-max-runtime 5 -no-is-spot cmd"},
		{name: "a value in the flag", args: "--max-runtime=5 --is-spot=false c", fixed: "--max-runtime=5 --is-spot=false c"},
		{name: "a value with a dash", args: "--max-runtime -5 --job-id -x c", fixed: "--max-runtime -5 --job-id -x c"},
		{name: "glued number", args: "-j4 cmd", fixed: "-j 4 cmd"},
		{name: "glued auto", args: "-jauto cmd", fixed: "-j auto cmd"},
		{name: "glued nonsense", args: "-j4x -j-1", fixed: "-j 4x -j -1"},
		{name: "a long flag that starts with j", args: "-job-id x", fixed: "-job-id x"},
		{name: "-j apart", args: "-j 4 -j=5 --j 6", fixed: "-j 4 -j=5 --j 6"},
		{name: "help", args: "-h --help --nonsens", fixed: "-h --help",
			faults: []string{`--nonsens: unknown flag; --help lists all flags`}},
		{name: "unknown goes, the rest stays", args: "--max-runtim --is-sport --verbose c", fixed: "--verbose c",
			faults: []string{
				`--max-runtim: unknown flag; did you mean --max-runtime?`,
				`--is-sport: unknown flag; did you mean --is-spot?`,
			}},
		{name: "unknown with its value", args: "--max-runtim=5=6 --verbose", fixed: "--verbose",
			faults: []string{`--max-runtim "5=6": unknown flag; did you mean --max-runtime?`}},
		{name: "unknown and a value before --", args: "--max-runtim 5 --verbose -- c", fixed: "--verbose -- c",
			faults: []string{`--max-runtim "5": unknown flag; did you mean --max-runtime?`}},
		{name: "unknown and an argument", args: "--max-runtim 5 --nonsense", fixed: "5 --nonsense",
			faults: []string{`--max-runtim: unknown flag; did you mean --max-runtime?`}},
		{name: "unknown right before --", args: "--max-runtim -- 5 --", fixed: "-- 5 --",
			faults: []string{`--max-runtim: unknown flag; did you mean --max-runtime?`}},
		{name: "not a flag's form", args: "---verbose -=x --=y --verbose", fixed: "--verbose",
			faults: []string{
				`---verbose: unknown flag; did you mean --verbose?`,
				`- "x": unknown flag; --help lists all flags`,
				`-- "y": unknown flag; --help lists all flags`,
			}},
		{name: "no value at the end", args: "--verbose --max-runtime", fixed: "--verbose",
			faults: []string{`--max-runtime "": no value; give one, as in --max-runtime SECONDS`}},
		{name: "no value before --", args: "--job-id -- c", fixed: "-- c",
			faults: []string{`--job-id "": no value; give one, as in --job-id ID`}},
		{name: "no value before a flag", args: "--job-id --verbose -j", fixed: "--verbose",
			faults: []string{
				`--job-id "": no value; give one, as in --job-id ID`,
				`-j "": no value; give one, as in -j N|auto`,
			}},
		{name: "a word after an on/off flag", args: "--strict yes -- c", fixed: "--strict yes -- c",
			faults: []string{`"yes": unexpected argument before --; give a value to an on/off flag as in --strict=false, or put -- before the command`}},
		{name: "a word before a flag", args: "tasks.json --job-id j -- c", fixed: "tasks.json --job-id j -- c",
			faults: []string{`"tasks.json": unexpected argument before --job-id; if it is the command, put -- before it`}},
		{name: "a command with -- of its own", args: "--strict grep -v -- path", fixed: "--strict grep -v -- path"},
		{name: "no value before help", args: "--job-id --help", fixed: "--help",
			faults: []string{`--job-id "": no value; give one, as in --job-id ID`}},
	} {
		args := strings.Fields(c.args)
		fixed, faults := config.Normalize(args)
		if !slices.Equal(fixed, strings.Fields(c.fixed)) {
			t.Errorf("%s: %q became %q, want %q", c.name, args, fixed, strings.Fields(c.fixed))
		}
		var lines []string
		for _, f := range faults {
			lines = append(lines, f.String())
		}
		if !slices.Equal(lines, c.faults) {
			t.Errorf("%s: %q has the faults\n%q, want\n%q", c.name, args, lines, c.faults)
		}
		if !slices.Equal(args, strings.Fields(c.args)) {
			t.Errorf("%s: Normalize changed its argument to %q", c.name, args)
		}
	}
}

func TestSuggestions(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"--max-runtim":           "--max-runtime",
		"--maxruntime":           "--max-runtime",
		"--max_runtime":          "--max-runtime",
		"--max-run":              "--max-runtime",
		"--retry-on-exist":       "--retry-on-exit",
		"--no-retry-on-exeption": "--no-retry-on-exception",
		"--job":                  "--job-id",
		"--queue":                "--queue-name",
		"--provder":              "--provider",
		"--simulate-spot":        "--simulate-spot-termination-after",
		"-k":                     "",
		"--zzz":                  "",
		"--hostname":             "",
		"--" + strings.Repeat("max-runtime", 1000): "",
	} {
		_, faults := config.Normalize([]string{given})
		if len(faults) != 1 {
			t.Errorf("%s: %d faults, want one", given, len(faults))
			continue
		}
		_, got, _ := strings.Cut(faults[0].Reason, "did you mean ")
		if got = strings.TrimSuffix(got, "?"); got != want {
			t.Errorf("%.40s: suggests %q, want %q", given, got, want)
		}
	}
}

func TestFaultsAreOneLineEach(t *testing.T) {
	t.Parallel()
	_, faults := config.Normalize([]string{"--a\nb=c\nd", "--x\x1b[31m\u2028\xff"})
	_, err := config.Load(config.Sources{Faults: faults, TaskSource: true})
	got, ok := errors.AsType[config.Errors](err)
	if !ok || len(got) != 2 {
		t.Fatalf("Load returned %v, want two Faults", err)
	}
	want := "--a b \"c\\nd\": unknown flag; --help lists all flags\n" +
		"--x [31m \ufffd: unknown flag; --help lists all flags"
	if got.Error() != want {
		t.Errorf("got\n%q, want\n%q", got.Error(), want)
	}
}

// For a misspelled flag, Normalize may suggest a flag of the program itself.
func TestNormalize_SuggestsFlagsOfTheProgram(t *testing.T) {
	t.Parallel()
	_, faults := config.Normalize([]string{"--thresold=4"}, "threshold")
	if want := `--thresold "4": unknown flag; did you mean --threshold?`; faults.Error() != want {
		t.Errorf("got %q, want %q", faults.Error(), want)
	}
}
