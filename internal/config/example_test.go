package config_test

import (
	"flag"
	"fmt"

	"github.com/ctworker/ctworker/internal/config"
)

// This example reads settings from arguments, and reports all faults together.
func Example() {
	args := []string{"--task-file=tasks.json", "--max-runtime", "ten", "-j0", "--retry-on-exi", "--", "sh", "-c", "true"}

	var line config.Flags
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	for _, f := range config.FlagsOf(&line) { // FlagsOf also fits a cli.Command
		if err := f.Apply(flags); err != nil {
			panic(err)
		}
	}
	fixed, faults := config.Normalize(args)
	if err := flags.Parse(fixed); err != nil {
		panic(err)
	}
	environ := map[string]string{"RMS_CLOUD_TASKS_INSTANCE_IS_SPOT": "maybe"}
	_, err := config.Load(config.Sources{
		Line:      line,
		Faults:    faults,
		LookupEnv: func(name string) (string, bool) { v, ok := environ[name]; return v, ok }, // or os.LookupEnv
	})
	fmt.Println(err)

	// Output:
	// --retry-on-exi: unknown flag; did you mean --retry-on-exit?
	// --max-runtime "ten": not a number of seconds; give a number above 0, such as 600
	// -j "0": out of range; give a whole number from 1 to 65536, or auto to run one task per usable CPU
	// RMS_CLOUD_TASKS_INSTANCE_IS_SPOT "maybe": not a boolean; give 1, true, yes, on, 0, false, no or off
}
