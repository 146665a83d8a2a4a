package worker

// ShellCommand returns the text of a command line for a POSIX shell. The text contains only printable
// characters.
func ShellCommand(args []string) string { return shellCommand(args) }
