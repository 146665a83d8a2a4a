package help

import "strings"

// fish writes a script that calls the fish command "complete" for each candidate, with a condition
// on the words before the cursor.
func (s *script) fish() {
	s.printf(`# Completion of %[1]s for fish. To use it, write it to a file:
#   %[1]s completion fish > ~/.config/fish/completions/%[1]s.fish

# Succeeds if the words before the cursor are those of the given command.
function _%[2]s_is
    set -l words (commandline -opc)
    contains -- -- $words; and return 1
    set -l found
    for word in $words[2..-1]
        if contains -- $word %[3]s
            set -a found $word
        end
    end
    test "$found" = "$argv"
end

function _%[2]s_after
    contains -- -- (commandline -opc)
end

complete -c %[1]s -e
`, s.program, s.function, strings.Join(s.allNames(), " "))
	if len(s.root.Commands) > 0 {
		s.printf("complete -c %s -f\n", s.program)
	}
	s.root.walk("", func(path string, c Command) { s.fishCommand(strings.TrimSpace(path), c) })
	s.printf("complete -c %[1]s -n _%[2]s_after -F -a '(__fish_complete_command)'\n", s.program, s.function)
}

// allNames returns the names of the commands on all levels.
func (s *script) allNames() (names []string) {
	s.root.walk("", func(path string, c Command) {
		if path != "" {
			names = append(names, c.lastName())
		}
	})
	return names
}

func (s *script) fishCommand(path string, c Command) {
	condition := " -n " + fishQuoted(strings.TrimSpace("_"+s.function+"_is "+path))
	for _, sub := range c.Commands {
		s.printf("complete -c %s%s -a %s -d %s\n", s.program, condition, sub.lastName(), fishQuoted(sub.Summary))
	}
	if len(c.Arguments) > 0 {
		s.printf("complete -c %s%s -a %s\n", s.program, condition, fishQuoted(strings.Join(c.Arguments, " ")))
	}
	if path == "help" {
		s.printf("complete -c %s%s -a %s\n", s.program, condition, fishQuoted(strings.Join(s.root.names(), " ")))
	}
	for _, f := range c.Flags {
		s.printf("complete -c %s%s", s.program, condition)
		for _, name := range f.Names {
			if len(name) == 1 {
				s.printf(" -s %s", name)
			} else {
				s.printf(" -l %s", name)
			}
		}
		switch values := f.values(); {
		case len(values) > 0:
			s.printf(" -x -a %s", fishQuoted(strings.Join(values, " ")))
		case f.Arg == fileArg:
			s.printf(" -r -F")
		case f.Arg != "":
			s.printf(" -x")
		}
		s.printf(" -d %s\n", fishQuoted(f.brief()))
	}
}

// fishQuoted returns text as one word of fish.
func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
