// Package redact removes credentials from text that is printed, logged or put
// into an event.
//
// Users pass addresses that contain credentials: a name and a password
// (https://name:password@host/), or a signature in the query of a pre-signed
// address (X-Amz-Signature, sig, token). [URL] masks both in one address, and
// [Text] in every address that a text contains.
//
// The guarantee: passwords, user information without a password, values of query
// parameters and fragments are masked. The secret parameters differ between services,
// so the values of all parameters are masked; their names are kept.
package redact

import (
	"errors"
	"regexp"
	"strings"
)

// Mask replaces each secret. [net/url.URL.Redacted] uses the same word.
const Mask = "xxxxx"

// URL returns address with its secrets replaced by [Mask]: the password, or user
// information without a password, the values of query parameters, and the fragment.
// Text that is not an address, and an address without secrets, are returned unchanged.
// A malformed address is masked as well.
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
	// A password may contain an unescaped slash. Therefore an @ after the first slash
	// ends the user information if the text before it looks like name:password.
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

// isUserinfo reports whether text, which ends before an @, is a name and a password that
// contains a slash. host is the part of text before the first slash. If it were a host,
// its port would be a number.
func isUserinfo(host, text string) bool {
	_, port, ok := strings.Cut(host, ":")
	return ok && port != "" && strings.Trim(port, "0123456789") != "" && strings.Contains(text, ":")
}

func userinfo(text string) string {
	name, password, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return ""
	case !ok: // a token is often used as the name
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

// Is reports whether target matches the original error.
func (e *maskedError) Is(target error) bool { return errors.Is(e.err, target) }
