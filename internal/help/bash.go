package help

import (
	"maps"
	"slices"
	"strings"
)

// The kinds of values for flags that do not take one of a list of words.
const (
	anyValue  = "-"
	fileValue = "-file"
)

// bash writes a script that does not need the package bash-completion, and that works with bash
// 3.2, the version of macOS.
func (s *script) bash() {
	s.printf(`# Completion of %[1]s for bash. To use it, put this line into ~/.bashrc:
#   eval "$(%[1]s completion bash)"

`, s.program)
	s.bashValues()
	s.bashCommands()
	s.WriteString(strings.NewReplacer("FUNCTION", s.function, "PROGRAM", quoted(s.program), "ANY", anyValue, "FILE", fileValue).Replace(bashMain))
}

// bashValues writes a shell function that determines whether a flag takes a value, and which kind of value.
func (s *script) bashValues() {
	flags := map[string][]string{} // by kind
	s.root.walk("", func(path string, c Command) {
		for _, f := range c.Flags {
			kind := anyValue
			switch values := f.values(); {
			case f.Arg == "":
				continue
			case len(values) > 0:
				kind = strings.Join(values, " ")
			case f.Arg == fileArg:
				kind = fileValue
			}
			for _, name := range f.Names {
				flags[kind] = append(flags[kind], quoted(path+" "+dashed(name)))
			}
		}
	})
	s.printf("# Sets kind to what flag $2 of command $1 takes: words, %s for a file, %s for anything else.\n", fileValue, anyValue)
	s.printf("%s_value() {\n    kind=''\n    case \"$1 $2\" in\n", s.function)
	for _, kind := range slices.Sorted(maps.Keys(flags)) {
		s.printf("    %s)\n        kind=%s ;;\n", strings.Join(flags[kind], "|"), quoted(kind))
	}
	s.printf("    *)\n        return 1 ;;\n    esac\n}\n\n")
}

// bashCommands writes a shell function that sets the words that can follow each command.
func (s *script) bashCommands() {
	s.printf("# Sets commands, flags, arguments and runs for the command $1. It fails if there is none.\n")
	s.printf("%s_command() {\n    commands='' flags='' arguments='' runs=''\n    case \"$1\" in\n", s.function)
	s.root.walk("", func(path string, c Command) {
		s.printf("    %s)\n", quoted(path))
		var flags []string
		for _, f := range c.Flags {
			for _, name := range f.Names {
				flags = append(flags, dashed(name))
			}
		}
		s.printf("        flags=%s\n", quoted(strings.Join(flags, " ")))
		if len(c.Commands) > 0 {
			s.printf("        commands=%s\n", quoted(strings.Join(c.names(), " ")))
		}
		if len(c.Arguments) > 0 {
			s.printf("        arguments=%s\n", quoted(strings.Join(c.Arguments, " ")))
		}
		if c.runsCommand() {
			s.printf("        runs=1\n")
		}
		s.printf("        ;;\n")
	})
	s.printf("    *)\n        return 1 ;;\n    esac\n}\n\n")
}

const bashMain = `# Adds the lines of standard input to the candidates.
FUNCTION_add() {
    local line
    while IFS= read -r line; do COMPREPLY+=("$line"); done
}

FUNCTION_files() {
    compopt -o filenames 2>/dev/null
    FUNCTION_add < <(compgen -f -- "$1")
}

FUNCTION() {
    local commands flags arguments runs kind i word
    local command='' flag='' after='' help='' cur=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $after ]]; then
            after+=1 # words of the program's arguments
        elif [[ $word == '=' ]]; then
            flag=${COMP_WORDS[i - 1]} # readline splits --flag=value at the sign
        elif [[ $word == :* ]]; then
            flag=: # and addresses, such as s3://bucket, whose rest follows
        elif [[ $flag ]]; then
            flag=''
        elif [[ $word == '--' ]]; then
            after=1
        elif [[ $word == -* ]]; then
            if FUNCTION_value "$command" "$word"; then flag=$word; fi
        elif [[ $word == help && ! $command && ! $help ]] && FUNCTION_command ' help'; then
            help=1
        elif FUNCTION_command "$command $word"; then
            command+=" $word"
        else
            after=11
        fi
    done
    if [[ ! $after && $cur == '=' ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 1]}
        cur=''
    fi
    FUNCTION_command "$command"
    if [[ $after ]]; then
        if [[ $after == 1 && $runs && $cur != */* ]]; then
            FUNCTION_add < <(compgen -c -- "$cur")
        else
            FUNCTION_files "$cur"
        fi
    elif [[ $flag ]]; then
        FUNCTION_value "$command" "$flag"
        case $kind in
        ANY | '') ;;
        FILE) FUNCTION_files "$cur" ;;
        *) FUNCTION_add < <(compgen -W "$kind" -- "$cur") ;;
        esac
    elif [[ $help ]]; then
        FUNCTION_add < <(compgen -W "$commands" -- "$cur")
    elif [[ $cur == -* ]]; then
        FUNCTION_add < <(compgen -W "$flags" -- "$cur")
    elif [[ $commands$arguments ]]; then
        FUNCTION_add < <(compgen -W "$commands $arguments" -- "$cur")
    elif [[ ! $command ]]; then
        FUNCTION_files "$cur" # a worker program, whose arguments are its own
    else
        FUNCTION_add < <(compgen -W "$flags" -- "$cur")
    fi
}

complete -F FUNCTION PROGRAM
`
