package help

import (
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// sample returns a program with two levels of commands.
func sample() Command {
	var asked Request
	return OfApp(&cli.App{
		Name: "tool", Usage: "do things", Description: "First.\n\n   kept   as is\n\nExamples:\n   tool run x\n   tool queue show",
		Flags: asked.Flags(),
		Commands: []*cli.Command{
			{Name: "run", Usage: "run a command", UsageText: "tool run [flags] -- COMMAND", Flags: []cli.Flag{
				&cli.Float64Flag{Name: "wait", Aliases: []string{"w"}, Usage: "wait for `SECONDS`", Value: 10},
				&cli.StringFlag{Name: "output", Usage: "write to `FILE`"},
				&cli.StringFlag{Name: "color", Usage: "color when `auto|never|N`; see the manual"},
				&cli.BoolFlag{Name: "fast", Usage: "don't wait: [never]"},
			}},
			{Name: "hidden", Hidden: true},
			{Name: "queue", Usage: "queues", Subcommands: []*cli.Command{{Name: "show", Usage: "show one", ArgsUsage: "a|b"}}},
		},
	})
}

func TestOfApp_DescribesFlagsAndCommands(t *testing.T) {
	t.Parallel()
	c := sample()
	run, ok := c.Find("run")
	if !ok || run.Name != "tool run" || len(c.Commands) != 2 {
		t.Fatalf("got %+v", c)
	}
	want := []Flag{
		{Names: []string{"wait", "w"}, Arg: "SECONDS", Usage: "wait for SECONDS", Default: "10", Common: true},
		{Names: []string{"output"}, Arg: "FILE", Usage: "write to FILE", Common: true},
		{Names: []string{"color"}, Arg: "auto|never|N", Usage: "color when auto|never|N; see the manual", Common: true},
		{Names: []string{"fast"}, Usage: "don't wait: [never]", Common: true},
	}
	for i, f := range run.Flags {
		if f.Synopsis() != want[i].Synopsis() || f.Text(true) != want[i].Text(true) || !f.Common {
			t.Errorf("got %+v, want %+v", f, want[i])
		}
	}
	if got := run.Flags[2].values(); !slices.Equal(got, []string{"auto", "never"}) {
		t.Errorf("values %q", got)
	}
	show, ok := c.Find("queue", "show")
	if !ok || show.Name != "tool queue show" || !slices.Equal(show.Arguments, []string{"a", "b"}) {
		t.Errorf("got %+v", show)
	}
	if _, ok := c.Find("queue", "none"); ok {
		t.Error("found a command that does not exist")
	}
	if c.Description != "First.\n\n   kept   as is" || !slices.Equal(c.Examples, []string{"tool run x", "tool queue show"}) {
		t.Errorf("description %q, examples %q", c.Description, c.Examples)
	}
}

func TestFull_Layout(t *testing.T) {
	t.Parallel()
	run, _ := sample().Find("run")
	const want = `tool run: run a command

Usage:
  tool run [flags] -- COMMAND

Flags:
  --wait, -w SECONDS        wait for SECONDS
                            (default: 10)
  --output FILE             write to FILE
  --color auto|never|N      color when auto|never|N; see
                            the manual
  --fast                    don't wait: [never]
`
	if got := run.Full(56); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPages_FitAnyWidth(t *testing.T) {
	t.Parallel()
	c := sample()
	for width := minWidth; width <= maxWidth; width++ {
		c.walk("", func(_ string, c Command) {
			for line := range strings.Lines(c.Full(width) + c.Short(width, "tool help")) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
					t.Errorf("width %d: %d columns: %q", width, n, line)
				}
			}
		})
	}
}

func TestWrapCommand_CanBePasted(t *testing.T) {
	t.Parallel()
	got := strings.Join(wrapCommand(`tool run --a "b c d e f g" -- sh -c 'one two three' x y z`, 24), "\n")
	const want = "tool run --a \\\n    \"b c d e f g\" -- \\\n    sh -c \\\n    'one two three' x \\\n    y z"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Text with the shells' special characters stays text.
func TestCompletion_Quotes(t *testing.T) {
	t.Parallel()
	c := sample()
	for shell, wants := range map[string][]string{
		"bash": {"complete -F _my_tool 'my-tool'", "kind='auto never'", "' run --output')\n        kind='-file'", "' run --wait'|' run -w')\n        kind='-'"},
		"zsh":  {`'*--fast[don'\''t wait\: \[never\]]'`, `'*--color=[color when auto|never|N]:auto|never|N:(auto never)'`, `'*-w+[wait for SECONDS]:SECONDS: '`, "1:argument:(a b)"},
		"fish": {`-d 'don\'t wait: [never]'`, "-l output -r -F", "-l wait -s w -x", "'__my_tool_is queue show' -a 'a b'"},
	} {
		script, err := c.Completion(shell, "my-tool")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(script, want) {
				t.Errorf("%s: lacks %s in\n%s", shell, want, script)
			}
		}
	}
	if _, err := c.Completion("tcsh", "tool"); err == nil {
		t.Error("no error for an unknown shell")
	}
}

func TestWidth_IsThatOfColumns(t *testing.T) {
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for columns, want := range map[string]int{"": 80, "100": 100, "9": minWidth, "9999": maxWidth, "x": 80, "-3": 80} {
		t.Setenv("COLUMNS", columns)
		if got := Width(file); got != want {
			t.Errorf("COLUMNS=%s: width %d, want %d", columns, got, want)
		}
	}
}
