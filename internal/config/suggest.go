package config

import (
	"strings"

	"github.com/xrash/smetrics"
)

// Suggest returns the name in names that a user who typed word most likely meant, or "" if no name
// is similar.
func Suggest(word string, names []string) string { return nearest(word, names) }

// nearest returns the name that is most similar to word, that is, has the smallest Levenshtein
// distance from it. Among equally similar names it returns the first one. A name is similar if at
// most a third of word is wrong, or if the name starts with word. Names that start with word are
// preferred. nearest returns "" if no name is similar.
func nearest(word string, names []string) string {
	const longest = 64 // longer than any name; limits the time, which grows with the square of the length
	if len(word) > longest {
		return ""
	}
	word = strings.ToLower(word)
	best, fewest := "", 2*longest
	for _, name := range names {
		n := smetrics.WagnerFischer(word, name, 1, 1, 1)
		abbreviation := len(word) >= 3 && strings.HasPrefix(name, word)
		similar := n <= (len(word)+2)/3 && n < len(word)
		if !abbreviation {
			n += longest
		}
		if (similar || abbreviation) && n < fewest {
			best, fewest = name, n
		}
	}
	return best
}
