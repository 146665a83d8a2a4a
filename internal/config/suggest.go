package config

import "strings"

// Suggest returns the name that a user who typed word most likely meant, or "".
func Suggest(word string, names []string) string { return nearest(word, names) }

// nearest returns the name that a user who typed word most likely meant: the
// one that takes the fewest edits, if they are few for its length, or of which
// word is the beginning. It returns "" if there is none, and the earliest of
// equals.
func nearest(word string, names []string) string {
	const longest = 64 // no name comes near this; the cost is quadratic
	if len(word) > longest {
		return ""
	}
	best, fewest := "", longest
	for _, name := range names {
		n := edits(word, name)
		begins := len(word) >= 3 && strings.HasPrefix(name, word)
		if few := n <= (len(word)+2)/3 && n < len(word); (few || begins) && n < fewest {
			best, fewest = name, n
		}
	}
	return best
}

// edits returns the Levenshtein distance of a and b: how many bytes have to be
// inserted, deleted or replaced to make b of a.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // from the a read so far to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
