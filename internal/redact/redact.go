// Package redact removes credentials from text that is printed, logged or put
// into an event.
//
// A user gives addresses with credentials in them: a name and a password
// (https://name:password@host/), or a signature in the query of a pre-signed
// address (X-Amz-Signature, sig, token). [URL] masks both in one address, and
// [Text] in every address that a text contains.
//
// The guarantee: no user information, no value of a query parameter and no
// fragment of an address survives. Which parameters are secret differs between
// services, so the values of all of them are masked; their names are kept.
package redact

import (
	"errors"
	"regexp"
	"strings"
)

// Mask is what stands in place of a secret. It is the word that
// [net/url.URL.Redacted] uses.
const Mask = "xxxxx"

// URL returns address without its secrets: a password, or user information
// without one, the values of query parameters and the fragment are replaced by
// [Mask]. What is not an address, and an address without secrets, is returned
// unchanged. A malformed address is masked as well.
func URL(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || !isScheme(scheme) {
		return address
	}
	rest, fragment, hasFragment := strings.Cut(rest, "#")
	rest, query, hasQuery := strings.Cut(rest, "?")
	end := strings.IndexByte(rest, '/')
	if end < 0 {
		end = len(rest)
	}
	// A password may contain a slash that is not escaped, so the last @ counts
	// even beyond the first slash if the part before it looks like name:password.
	authority, path := rest[:end], rest[end:]
	if !strings.Contains(authority, "@") {
		if at := strings.LastIndexByte(rest, '@'); at >= 0 && isUserinfo(authority, rest[:at]) {
			authority, path = rest[:at+1], rest[at+1:]
		}
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = userinfo(authority[:at]) + authority[at:]
	}
	masked := scheme + "://" + authority + path
	if hasQuery {
		masked += "?" + parameters(query)
	}
	if hasFragment && fragment != "" {
		masked += "#" + Mask
	}
	return masked
}

// isUserinfo reports whether text, which ends before an @ and begins with what
// would be the host, is rather a name and a password with a slash in it: then the
// supposed port is not a number.
func isUserinfo(host, text string) bool {
	_, port, ok := strings.Cut(host, ":")
	return ok && port != "" && strings.Trim(port, "0123456789") != "" && strings.Contains(text, ":")
}

func userinfo(text string) string {
	name, password, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return ""
	case !ok: // a token is often given as the name
		return Mask
	case password == "":
		return Mask + ":"
	}
	return name + ":" + Mask
}

func parameters(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		switch {
		case ok && value != "":
			pairs[i] = name + "=" + Mask
		case !ok && pair != "":
			pairs[i] = Mask
		}
	}
	return strings.Join(pairs, "&")
}

func isScheme(s string) bool { return schemeOnly.MatchString(s) }

var (
	schemeOnly = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)
	// An escaped quotation mark ends an address, as in JSON or a quoted string.
	addresses = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s"<>\\` + "`" + `]|\\[^"])+`)
)

// Text returns text with every address in it masked as by [URL].
func Text(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return addresses.ReplaceAllStringFunc(text, func(address string) string {
		// Punctuation after an address belongs to the sentence.
		trimmed := strings.TrimRight(address, ".,;:!)]}'")
		return URL(trimmed) + address[len(trimmed):]
	})
}

// Error returns err with the addresses in its text masked. It unwraps to err.
// Error(nil) is nil.
func Error(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	masked := Text(text)
	if masked == text {
		return err
	}
	return &maskedError{masked, err}
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }

func (e *maskedError) Unwrap() error { return e.err }

// Is keeps a masked error equal to the error that it stands for.
func (e *maskedError) Is(target error) bool { return errors.Is(e.err, target) }
