package ctworker

import (
	"errors"
	"fmt"

	jsonv2 "github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

// faultPlace returns the place of the part of value that encoding/json cannot encode, such as
// ` at "/pixels/0"`, a JSON pointer (RFC 6901). It returns "" if value itself is that part, or
// the place is unknown. It calls the methods of value with which a value encodes itself again.
func faultPlace(value any) (place string) {
	defer func() {
		if recover() != nil { // such a method panics the second time
			place = ""
		}
	}()
	// The errors of encoding/json have no place.
	_, err := jsonv2.Marshal(value, jsonv1.DefaultOptionsV1(), jsonv1.ReportErrorsWithLegacySemantics(false))
	fault, ok := errors.AsType[*jsonv2.SemanticError](err)
	if !ok || fault.JSONPointer == "" {
		return ""
	}
	const most = 200 // a value that contains itself is nested very deeply
	pointer := string(fault.JSONPointer)
	if start := utf8cut.Start([]byte(pointer), most); len(start) < len(pointer) {
		return fmt.Sprintf(" at %q and below", start)
	}
	return fmt.Sprintf(" at %q", pointer)
}
