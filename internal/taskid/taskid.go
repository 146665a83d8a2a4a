// Package taskid derives task IDs from the inputs of tasks that have no ID of their own.
package taskid

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"

	"github.com/ctworker/ctworker/internal/rawjson"
	"github.com/ctworker/ctworker/internal/utf8cut"
)

const (
	// maxID is the maximum length, in bytes, of a value that is used as the task ID itself.
	maxID = 128
	// start is the length, in bytes, of the part of any other value that its task ID contains.
	start = 40
)

// Of returns the task ID for a value. The ID depends only on the value, so that --resume recognizes the
// task even if other inputs were added or removed. If the value is empty, long or not printable, the ID
// ends with a part of the value's SHA-256.
func Of(value string) string {
	if value != "" && len(value) <= maxID && strings.IndexFunc(value, unprintable) < 0 {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	text := strings.Map(func(r rune) rune {
		if unprintable(r) {
			return -1
		}
		return r
	}, utf8cut.Start(value, start))
	return text + "#" + hex.EncodeToString(sum[:8])
}

// OfInput returns the ID and the data of the task of an input, which must be valid UTF-8. The data is
// {"value": input}.
func OfInput(input string) (id string, data []byte) {
	return Of(input), append(rawjson.AppendQuote([]byte(`{"value":`), input), '}')
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
