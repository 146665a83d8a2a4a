package config

import (
	"strings"

	"github.com/xrash/smetrics"
)

// Suggest returns the name that a user who typed word most likely meant, or "".
func Suggest(word string, names []string) string { return nearest(word, names) }

// nearest returns the name with the smallest Levenshtein distance from word, and the first one if
// there are several. A name is plausible if at most a third of word is wrong, or if word is the
// start of the name. nearest returns "" if no name is plausible.
func nearest(word string, names []string) string {
	const longest = 64 // longer than any name; the cost is quadratic
	if len(word) > longest {
		return ""
	}
	word = strings.ToLower(word)
	best, fewest := "", longest
	for _, name := range names {
		n := smetrics.WagnerFischer(word, name, 1, 1, 1)
		abbreviation := len(word) >= 3 && strings.HasPrefix(name, word)
		if similar := n <= (len(word)+2)/3 && n < len(word); (similar || abbreviation) && n < fewest {
			best, fewest = name, n
		}
	}
	return best
}
