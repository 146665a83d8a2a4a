package help

import "strings"

// zsh writes a script that can be sourced, or installed as a file _PROGRAM in $fpath.
func (s *script) zsh() {
	s.printf(`#compdef %[1]s
# Completion of %[1]s for zsh. To use it, put this line into ~/.zshrc, after compinit:
#   source <(%[1]s completion zsh)

`, s.program)
	s.root.walk("", func(path string, c Command) { s.zshCommand(path, c) })
	s.printf(`if [[ $funcstack[1] == %[1]s ]]; then
    %[1]s "$@"
else
    compdef %[1]s %[2]s
fi
`, s.function, quoted(s.program))
}

// zshName returns the name of the function for a command.
func (s *script) zshName(path string) string { return s.function + identifier(path) }

func (s *script) zshCommand(path string, c Command) {
	s.printf("%s() {\n    local curcontext=$curcontext state line\n    typeset -A opt_args\n    _arguments -C -S \\\n", s.zshName(path))
	for _, f := range c.Flags {
		for _, name := range f.Names {
			spec := dashed(name)
			if f.Arg != "" && len(name) > 1 {
				spec += "=" // --flag=value or --flag value
			} else if f.Arg != "" {
				spec += "+" // -j4 or -j 4
			}
			spec = "*" + spec + "[" + zshText(f.brief()) + "]"
			if f.Arg != "" {
				spec += ":" + zshText(f.Arg) + ":" + zshValue(f)
			}
			s.printf("        %s \\\n", quoted(spec))
		}
	}
	switch {
	case len(c.Commands) > 0:
		s.zshSubcommands(path, c)
	case len(c.Arguments) > 0:
		s.printf("        %s\n}\n\n", quoted("1:argument:("+strings.Join(c.Arguments, " ")+")"))
	case c.runsCommand():
		s.printf("        '(-)1:command:_command_names -e' \\\n        '*::arguments:_normal'\n}\n\n")
	case path == "":
		s.printf("        '*:argument:_files'\n}\n\n")
	default:
		s.printf("        && return 0\n}\n\n")
	}
}

func (s *script) zshSubcommands(path string, c Command) {
	s.printf("        '1:command:->command' \\\n        '*::argument:->argument'\n")
	s.printf("    case $state in\n    command)\n        local -a commands=(\n")
	for _, sub := range c.Commands {
		s.printf("            %s\n", quoted(sub.lastName()+":"+zshText(sub.Summary)))
	}
	s.printf("        )\n        _describe command commands ;;\n    argument)\n        case $line[1] in\n")
	for _, sub := range c.Commands {
		name := sub.lastName()
		if path == "" && name == "help" {
			s.printf("        help) %s ;;\n", s.function) // the words of any command can follow "help"
			continue
		}
		s.printf("        %s) %s ;;\n", name, s.zshName(path+" "+name))
	}
	s.printf("        esac ;;\n    esac\n}\n\n")
}

func zshValue(f Flag) string {
	if values := f.values(); len(values) > 0 {
		return "(" + strings.Join(values, " ") + ")"
	}
	if f.Arg == fileArg {
		return "_files"
	}
	return " "
}

// zshText escapes text in an argument of _arguments or _describe.
func zshText(text string) string {
	return strings.NewReplacer(`\`, `\\`, ":", `\:`, "[", `\[`, "]", `\]`).Replace(text)
}
