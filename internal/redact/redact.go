// Package redact removes credentials from text before it is printed, logged or written to an event.
//
// Users pass addresses that contain credentials. An address can contain a name and a password
// (https://name:password@host/). The query of a pre-signed address contains a signature
// (X-Amz-Signature, sig, token). [URL] masks both in one address. [Text] masks them in every
// address in a text.
//
// Passwords, user information without a password, values of query parameters, and fragments are
// masked. Which parameters are secret differs between services, so all values are masked. The names
// of the parameters are kept.
package redact

import (
	"errors"
	"regexp"
	"strings"
)

// Mask replaces each secret. [net/url.URL.Redacted] uses the same text.
const Mask = "xxxxx"

// URL returns address with its secrets replaced by [Mask]. Secrets are the password, user
// information without a password, the values of query parameters, and the fragment. Secrets in a
// malformed address are replaced, too. Text that is not an address is returned unchanged.
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
	// A password may contain an unescaped slash, and the @ then follows the first slash. Treat the
	// text before such an @ as user information if it looks like name:password.
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

// isUserinfo reports whether text is a name and a password that contains a slash. text is the part
// of an address between :// and an @. host is the part of text before the first slash. If host is
// really a host, the text after its colon is a port, which contains only digits.
func isUserinfo(host, text string) bool {
	_, port, ok := strings.Cut(host, ":")
	return ok && port != "" && strings.Trim(port, "0123456789") != "" && strings.Contains(text, ":")
}

func userinfo(text string) string {
	name, password, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return ""
	case !ok: // without a password, the name itself is often a secret token
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
	// An address ends before \". If a quoted string contains another quoted string, \" ends the
	// inner string.
	addresses = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s"<>\\` + "`" + `]|\\[^"])+`)
)

// Text returns text with every address in it masked as by [URL].
func Text(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return addresses.ReplaceAllStringFunc(text, func(address string) string {
		// Punctuation at the end belongs to the sentence, not to the address.
		trimmed := strings.TrimRight(address, ".,;:!)]}'")
		return URL(trimmed) + address[len(trimmed):]
	})
}

// Error returns an error with the text of err, in which the secrets in addresses are masked as by
// [Text]. The returned error unwraps to err. If err is nil, Error returns nil.
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

// Is reports whether the original error matches target.
func (e *maskedError) Is(target error) bool { return errors.Is(e.err, target) }
