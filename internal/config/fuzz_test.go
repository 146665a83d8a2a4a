package config_test

import (
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/ctworker/ctworker/internal/config"
)

// FuzzLoad loads arguments (one per line), variables (NAME=value, one per line) and a config file.
// Load must return a Config that can be printed and loaded again, or faults of one line each.
func FuzzLoad(f *testing.F) {
	f.Add("--task-file\nt\n--max-runtime=5\n-j4\n--\ncmd", "RMS_CLOUD_TASKS_PROVIDER=aws", "max-runtime: 7\n", false)
	f.Add("--no-is-spot\n--is-spot=false\n--nonsense\n-jauto", "RMS_CLOUD_TASKS_INSTANCE_IS_SPOT=1", "a: [b\n", true)
	f.Add("--max-result-size\n3GiB\n--memory\n1e3", "RMS_CLOUD_TASKS_INSTANCE_PRICE=-0", "job_id: !!binary /w==\n", true)
	f.Add("--max-memory-allowed-per-task=0.1\n--job-id", "RMS_CLOUD_TASKS_MAX_RUNTIME=.", "? [x]\n: *y\n<<: {}\n", false)
	f.Add("---\n--=\n-\n-j", "RMS_CLOUD_TASKS_JOB_ID=\xff", "- \"\\x00\"\n---\n", true)
	f.Fuzz(func(t *testing.T, args, env, file string, source bool) {
		fixed, faults := config.Normalize(strings.Split(args, "\n"))
		var line config.Flags
		set := flag.NewFlagSet("run", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		for _, f := range config.FlagsOf(&line) {
			if err := f.Apply(set); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Parse(fixed); err != nil && !errors.Is(err, flag.ErrHelp) {
			t.Fatalf("%q, normalized to %q: %v", args, fixed, err)
		}
		vars := environ{}
		for kv := range strings.SplitSeq(env, "\n") {
			k, v, _ := strings.Cut(kv, "=")
			vars[k] = v
		}
		load := func(line config.Flags, faults config.Errors, file string) (*config.Config, error) {
			return config.Load(config.Sources{
				Line:       append(line, config.Flag{Name: "config", Value: "worker.yaml"}),
				Faults:     faults,
				LookupEnv:  vars.lookup,
				ReadFile:   func(string) ([]byte, error) { return []byte(file), nil },
				TaskSource: source,
				CPUs:       func() int { return 12 },
			})
		}
		c, err := load(line, faults, file)
		if err != nil {
			all, ok := errors.AsType[config.Errors](err)
			if !ok || len(all) == 0 || c != nil {
				t.Fatalf("Config %v and error %#v", c, err)
			}
			for _, fault := range all {
				if s := fault.String(); fault.Reason == "" || strings.ContainsFunc(s, unicode.IsControl) {
					t.Fatalf("fault %q", s)
				}
			}
			return
		}
		clear(vars)
		again := printed(t, c)
		back, err := load(nil, nil, again)
		if err != nil {
			t.Fatalf("cannot read back:\n%v\nfrom\n%s", err, again)
		}
		want, got := fields(c), fields(back)
		for name := range want {
			if name != "File" && name != "PrintConfig" && got[name] != want[name] {
				t.Fatalf("%s was %#v and comes back as %#v from\n%s", name, want[name], got[name], again)
			}
		}
		for _, kv := range c.Env() {
			if strings.ContainsRune(kv, 0) {
				t.Fatalf("variable %q", kv)
			}
		}
	})
}
