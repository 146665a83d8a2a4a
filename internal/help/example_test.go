package help_test

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ctworker/ctworker/internal/help"
)

// The help of a command is generated from the fields of its cli.Command.
func Example() {
	c := help.OfCommand("tool", &cli.Command{
		Name:        "copy",
		Usage:       "copy files",
		Description: "Example:\n   tool copy --parallel 4 *.tif",
		Flags:       []cli.Flag{&cli.IntFlag{Name: "parallel", Usage: "copy `N` files at a time", Value: 1}},
	})
	fmt.Print(c.Full(80))

	// Output:
	// tool copy: copy files
	//
	// Usage:
	//   tool copy [flags]
	//
	// Example:
	//   tool copy --parallel 4 *.tif
	//
	// Flags:
	//   --parallel N              copy N files at a time (default: 1)
}
