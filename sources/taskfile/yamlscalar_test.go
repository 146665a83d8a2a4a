package taskfile

import (
	"strings"
	"testing"
)

// plainScalars contains unquoted values, their JSON in YAML 1.2 ("" for a string), and the value that
// PyYAML 6.0.3 reads if it is different.
var plainScalars = []struct{ text, json, yaml11 string }{
	// null, true and false
	{"", "null", ""}, {"~", "null", ""}, {"null", "null", ""}, {"Null", "null", ""}, {"NULL", "null", ""}, {"nULL", "", ""},
	{"true", "true", ""}, {"True", "true", ""}, {"TRUE", "true", ""}, {"tRUE", "", ""}, {"false", "false", ""}, {"False", "false", ""}, {"FALSE", "false", ""},
	{"yes", "", "true"}, {"Yes", "", "true"}, {"YES", "", "true"}, {"yEs", "", ""}, {"no", "", "false"}, {"No", "", "false"}, {"NO", "", "false"},
	{"on", "", "true"}, {"On", "", "true"}, {"ON", "", "true"}, {"off", "", "false"}, {"Off", "", "false"}, {"OFF", "", "false"},
	{"y", "", ""}, {"n", "", ""}, {"Y", "", ""}, {"N", "", ""}, {"yesterday", "", ""}, {"one", "", ""},
	// integers
	{"0", "0", ""}, {"-0", "-0", ""}, {"+0", "0", ""}, {"12", "12", ""}, {"+12", "12", ""}, {"-12", "-12", ""},
	{"12345678901234567890123", "12345678901234567890123", ""},
	{"0100", "100", "the number 64"}, {"-0100", "-100", "the number -64"}, {"+010", "10", "the number 8"}, {"007", "7", ""}, {"00", "0", ""},
	{"08", "8", "a string"}, {"0108", "108", "a string"}, {"02472256", "2472256", "the number 685230"},
	{"0o10", "8", "a string"}, {"0o17", "15", "a string"}, {"0o8", "", ""}, {"0o", "", ""}, {"-0o7", "", ""}, {"0O7", "", ""},
	{"0x1F", "31", ""}, {"0xfFFFFFFFFFFFFFFFF", "295147905179352825855", ""}, {"0x", "", ""}, {"0xG", "", ""}, {"0X1F", "", ""},
	{"-0x10", "", "the number -16"}, {"+0x10", "", "the number 16"}, {"0x1_F", "", "the number 31"},
	{"0b101", "", "the number 5"}, {"-0b1", "", "the number -1"}, {"0b2", "", ""}, {"0b_", "", "an error"},
	{"2024_0115", "", "the number 20240115"}, {"1_000", "", "the number 1000"}, {"1_", "", "the number 1"}, {"_1", "", ""}, {"0_7", "", "the number 7"},
	{"1:30", "", "the number 90"}, {"-1:30", "", "the number -90"}, {"12:30:45", "", "the number 45045"}, {"1:60", "", ""}, {"01:30", "", ""}, {"0:30", "", ""},
	{"+", "", ""}, {"--1", "", ""}, {"1a", "", ""}, {"1,000", "", ""}, {"1 2", "", ""}, {"١", "", ""},
	// numbers with a point or an exponent
	{"1.50", "1.50", ""}, {"-1.50", "-1.50", ""}, {"007.5", "7.5", ""}, {".5", "0.5", ""}, {"-.5", "-0.5", "a string"}, {"+.5", "0.5", "a string"},
	{"5.", "5.0", ""}, {"-5.", "-5.0", ""}, {"1.e+3", "1e+3", ""}, {"1e5", "1e5", "a string"}, {"1E5", "1E5", "a string"}, {"1e+5", "1e+5", "a string"},
	{"12e03", "12e03", "a string"}, {"1.5e5", "1.5e5", "a string"}, {"1.5e+5", "1.5e+5", ""}, {"1.5E-05", "1.5E-05", ""}, {"1.0e+400", "1.0e+400", ""},
	{"3.14159265358979323846264338327950288", "3.14159265358979323846264338327950288", ""}, {"1.0e+999999999999", "1.0e+999999999999", ""},
	{"1_0.5", "", "a number"}, {"685.230_15e+03", "", "a number"}, {"190:20:30.15", "", "a number"},
	{"1e", "", ""}, {"1e+", "", ""}, {"e5", "", ""}, {".", "", ""}, {"..", "", ""}, {"-.", "", ""}, {"1.2.3", "", ""}, {"192.168.0.1", "", ""}, {".5e", "", ""},
	// dates, and other types that only YAML 1.1 has
	{"2024-01-02", "", "a date"}, {"2024-01-02T03:04:05Z", "", "a date"}, {"2024-1-2 3:04:05.6 +1", "", "a date"}, {"2024-1-2", "", ""}, {"20240102", "20240102", ""},
	{"=", "", "an error"}, {"<<", "", "an error"}, {"<", "", ""}, {"==", "", ""},
	{"3f2b8c1e-0d4a-4e6f-9b7a-5c3d2e1f0a9b", "", ""}, {"10-20", "", ""}, {"s3://bucket/a_b", "", ""},
}

func TestResolvePlain(t *testing.T) {
	t.Parallel()
	for _, test := range plainScalars {
		s, fault := resolve(test.text, true, "")
		if fault != "" || s.json != test.json || (s.kind == stringScalar) != (test.json == "") {
			t.Errorf("%q is %v %s %q; want %q", test.text, s.kind, s.json, fault, test.json)
		}
		if there, differs := differsInYAML11(test.text, s); differs != (test.yaml11 != "") || differs && there != test.yaml11 {
			t.Errorf("%q differs in YAML 1.1: %v, %s; want %q", test.text, differs, there, test.yaml11)
		}
		if s, fault := resolve(test.text, false, ""); s != (scalar{}) || fault != "" {
			t.Errorf("%q in quotes is %v %s %q", test.text, s.kind, s.json, fault)
		}
		if s, fault := resolve(test.text, true, strTag); s != (scalar{}) || fault != "" {
			t.Errorf("!!str %s is %v %s %q", test.text, s.kind, s.json, fault)
		}
	}
}

func TestResolveTags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ tag, text, json, fault string }{
		{intTag, "0x10", "16", ""}, {intTag, "010", "10", ""}, {intTag, "1.0", "", `"1.0" is not a number, as its tag !!int requires`}, {intTag, "x", "", "is not a number"},
		{intTag, "1_0", "", "is not a number"}, {floatTag, "3", "3.0", ""}, {floatTag, "3.10", "3.10", ""}, {floatTag, "1e5", "1e5", ""}, {floatTag, "x", "", "is not a number"},
		{boolTag, "True", "true", ""}, {boolTag, "yes", "", `"yes" is not true or false, as its tag !!bool requires`},
		{nullTag, "", "null", ""}, {nullTag, "none", "", "is not null"}, {timestampTag, "2024-01-02", "", ""}, {binaryTag, "aGk=", "", ""},
		{floatTag, ".inf", "", ".inf cannot be represented in JSON"}, {"!mine", "x", "", "the tag !mine is not supported"}, {"!!omap", "x", "", "the tag !!omap is not supported"},
		{"", ".nan", "", ".nan cannot be represented in JSON"}, {"", ".NaN", "", "cannot be represented in JSON"}, {"", "-.Inf", "", "cannot be represented in JSON"}, {"", "+.INF", "", "cannot be represented in JSON"}, {"", ".iNF", "", ""}, {"", "+.nan", "", ""},
		{"", "0x" + strings.Repeat("F", maxDigits), "", ""}, {"", "0x" + strings.Repeat("F", maxDigits+1), "", "of more than 1000 digits is not supported"},
		{"", strings.Repeat("9", 100_000), strings.Repeat("9", 100_000), ""},
	} {
		s, fault := resolve(test.text, test.tag == "", test.tag)
		if test.fault == "" && fault != "" || !strings.Contains(fault, test.fault) || test.json != "" && s.json != test.json {
			t.Errorf("%s %.20q is %.40s %q", test.tag, test.text, s.json, fault)
		}
	}
}

// A number of many digits is not converted just to find out how YAML 1.1 reads it.
func TestDiffersInYAML11OfLongNumbers(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("1", 20_000)
	for text, want := range map[string]bool{
		long: false, long + ".5": false, "-" + long: false, "0" + long: true, "1_" + long: true, "1" + strings.Repeat(":10", 5_000): true,
		long + "e5": true, long + "abcdef": false, "0x" + strings.Repeat("f", 900): false,
	} {
		s, _ := resolve(text, true, "")
		if there, differs := differsInYAML11(text, s); differs != want {
			t.Errorf("%.20s…: %v, %s", text, differs, there)
		}
	}
}
