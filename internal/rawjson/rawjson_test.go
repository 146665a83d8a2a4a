package rawjson_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/internal/rawjson"
)

func Example() {
	name := rawjson.Unquote([]byte(`"caf\udce9"`))
	fmt.Println(rawjson.IsUTF8(name), string(rawjson.AppendQuote(nil, name)))
	// Output: false "caf\udce9"
}

func TestIsValid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`"caf\udce9"`: true, `"\ud83d"`: true, `"\udce9\ud83d"`: true, `{"\udce9":1,"\udce9":2}`: true, `{"a":1,"a":2}`: true,
		`1e999999`: true, strings.Repeat("9", 5000): true, `-0`: true, "\"\uffff\u007f\"": true, `"\u0000"`: true,
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000): true,
		strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001): false,
		``: false, `"\uD"`: false, `"\x"`: false, "\"\xff\"": false, "\"\xed\xb3\xa9\"": false, `1 2`: false, `NaN`: false, "\"\n\"": false, `[1,]`: false,
	} {
		if got := rawjson.IsValid([]byte(text)); got != want {
			t.Errorf("IsValid(%.40q) = %v", text, got)
		}
		compact, ok := rawjson.Compact([]byte(" " + text + "\n"))
		if ok != want || ok && string(compact) != text {
			t.Errorf("Compact(%.40q) = %.40q, %v", text, compact, ok)
		}
	}
}

func TestUnquoteAndAppendQuote(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ quoted, text, requoted string }{
		{`""`, "", `""`}, {`"a"`, "a", `"a"`},
		{`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t", `"\"\\/\b\f\n\r\t"`},
		{`"\u0041\u00e9\u20AC"`, "Aé€", `"Aé€"`}, {`"\ud83d\ude00"`, "\U0001f600", "\"\U0001f600\""},
		{`"caf\udce9"`, "caf\xed\xb3\xa9", `"caf\udce9"`}, {`"\uD83Dx"`, "\xed\xa0\xbdx", `"\ud83dx"`},
		{`"\ud83d\ud83d\ude00\ude00"`, "\xed\xa0\xbd\U0001f600\xed\xb8\x80", "\"\\ud83d\U0001f600\\ude00\""},
		{`"\udce9\n\u0041"`, "\xed\xb3\xa9\nA", `"\udce9\nA"`}, {`"\ud83d\n"`, "\xed\xa0\xbd\n", `"\ud83d\n"`},
	} {
		if got := rawjson.Unquote([]byte(tc.quoted)); got != tc.text {
			t.Errorf("Unquote(%s) = %q, want %q", tc.quoted, got, tc.text)
		}
		if got := string(rawjson.AppendQuote([]byte("x"), tc.text)); got != "x"+tc.requoted {
			t.Errorf("AppendQuote(%q) = %s, want %s", tc.text, got, tc.requoted)
		}
		var s struct{ S *rawjson.String }
		if err := json.Unmarshal([]byte(`{"S":`+tc.quoted+`}`), &s); err != nil || string(*s.S) != tc.text {
			t.Errorf("%s: %v, %v", tc.quoted, s.S, err)
		}
	}
	if got := string(rawjson.AppendQuote(nil, "a\xff\xed\xb3\xa9\xed\xb3")); got != `"a`+"\ufffd"+`\udce9`+"\ufffd\ufffd"+`"` {
		t.Errorf("AppendQuote of invalid UTF-8 = %s", got)
	}
	var s rawjson.String
	if err := json.Unmarshal([]byte(`3`), &s); err == nil {
		t.Error("a number was decoded as a string")
	}
}

func TestFileName(t *testing.T) {
	t.Parallel()
	for quoted, want := range map[string]string{
		`"a/b.py"`: "a/b.py", `"w\udce9.py"`: "w\xe9.py", `"\udcff\udc80é"`: "\xff\x80é", `"\ud800"`: "\xed\xa0\x80", `"\udc7f"`: "\xed\xb1\xbf",
	} {
		var name rawjson.FileName
		if err := json.Unmarshal([]byte(quoted), &name); err != nil || string(name) != want {
			t.Errorf("%s: %q, error %v", quoted, name, err)
		}
	}
}

func FuzzStrings(f *testing.F) {
	f.Add(`"caf\udce9"`)
	f.Fuzz(func(t *testing.T, quoted string) {
		if !rawjson.IsValid([]byte(quoted)) || !strings.HasPrefix(quoted, `"`) {
			return
		}
		text := rawjson.Unquote([]byte(quoted))
		requoted := rawjson.AppendQuote(nil, text)
		if !rawjson.IsValid(requoted) || rawjson.Unquote(requoted) != text {
			t.Fatalf("%s became %q and then %s", quoted, text, requoted)
		}
	})
}
