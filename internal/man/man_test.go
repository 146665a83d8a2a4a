package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/help"
)

var sample = help.Command{
	Name: "tool", Summary: "do things", Usage: []string{"tool COMMAND"}, Description: ".dot at the start\n\n   kept   as is",
	Commands: []help.Command{{
		Name: "tool run", Summary: `it's a \ test`, Usage: []string{"tool run [flags] -- COMMAND [ARGS…]", "zcat x | tool run"},
		Examples: []string{"tool run --wait 5 -- a 'b'"},
		Flags: []help.Flag{
			{Names: []string{"wait", "w"}, Arg: "SECONDS", Usage: "Wait", Default: "10", Env: "TOOL_WAIT", Category: "Time"},
			{Names: []string{"fast", "no-fast"}, Usage: "Do not wait", Category: "Other"},
		},
	}},
}

func TestWrite_OnePagePerCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	description, err := json.Marshal(sample)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "tool")
	script := "#!/bin/sh\nif [ $1 = version ]; then echo tool version 1.2; else cat <<'end'\n" + string(description) + "\nend\nfi\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	n, err := write(t.Context(), program, filepath.Join(dir, "man"))
	if err != nil || n != 2 {
		t.Fatalf("%d pages, error %v", n, err)
	}
	for name, wants := range map[string][]string{
		"tool.1": {`.TH TOOL 1 "" "tool 1.2"`, "\n\\&.dot at the start\n", "\n.nf\n   kept   as is\n.fi\n", "\n\\fBtool\\-run\\fR(1)\n"},
		"tool-run.1": {
			`.TH TOOL\-RUN 1`, `tool\-run \- it\(aqs a \e test`, `\fBtool run\fR [flags] \-\- COMMAND [ARGS...]`, "\n.br\nzcat x | tool run\n",
			".SS Time\n.TP\n\\fB\\-\\-wait\\fR, \\fB\\-w\\fR \\fISECONDS\\fR\nWait.\nThe default is 10.\n.br\nVariable: \\fBTOOL_WAIT\\fR.\n",
			"\\fB\\-\\-fast\\fR, \\fB\\-\\-no\\-fast\\fR\n", ".SH SEE ALSO\n\\fBtool\\fR(1)\n", `tool run \-\-wait 5 \-\- a \(aqb\(aq`,
		},
	} {
		path := filepath.Join(dir, "man", name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			if out, err := exec.Command(groff, "-man", "-Tascii", "-ww", "-z", path).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: groff: %v: %s", name, err, out)
			}
		}
	}
}

func TestWrite_ReportsTheErrorOutputOfTheProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho unknown command >&2\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := write(t.Context(), program, t.TempDir()); err == nil || !strings.Contains(err.Error(), "unknown command") {
		t.Errorf("got %v", err)
	}
}
