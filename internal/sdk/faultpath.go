package sdk

import (
	"errors"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// FaultPath returns the location of the part of value that encoding/json cannot encode. The
// location is a JSON pointer (RFC 6901), as in ` at "/pixels/0"`. FaultPath returns "" if value
// itself is that part, or if the location is unknown. It calls the MarshalJSON and MarshalText
// methods of value a second time.
func FaultPath(value any) (path string) {
	defer func() {
		if recover() != nil { // one of these methods panicked
			path = ""
		}
	}()
	// The errors of encoding/json do not contain the location.
	_, err := jsonv2.Marshal(value, jsonv1.DefaultOptionsV1(), jsonv1.ReportErrorsWithLegacySemantics(false))
	fault, ok := errors.AsType[*jsonv2.SemanticError](err)
	if !ok || fault.JSONPointer == "" {
		return ""
	}
	const maxLen = 200 // a value that contains itself is nested very deeply
	pointer := string(fault.JSONPointer)
	if start := utf8cut.Start([]byte(pointer), maxLen); len(start) < len(pointer) {
		return fmt.Sprintf(" at %q and below", start)
	}
	return fmt.Sprintf(" at %q", pointer)
}
