package taskproto

import (
	"testing"
)

func BenchmarkReply(b *testing.B) {
	for name, line := range map[string]string{
		"plain":     `{"task_id":"task-00000001","retry":false,"result":true}`,
		"object":    `{"task_id":"task-00000001","retry":false,"result":{"width":640,"height":480,"mean":0.125,"file":"s3://bucket/out/1.png"}}`,
		"stranger":  `{"result": true, "task_id": "task-00000001"}`,
		"exception": `{"task_id":"task-00000001","exception":"Traceback (most recent call last):\n  File \"x.py\", line 1, in f\nValueError: no"}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if r, err := ParseReply([]byte(line)); err != nil || string(r.ID) != "task-00000001" {
					b.Fatal(r, err)
				}
			}
		})
	}
}

func BenchmarkAppendTask(b *testing.B) {
	data := []byte(`{"num1":        1, "num2":        2}`)
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = AppendTask(out[:0], "task-00000001", 1, data)
	}
	b.SetBytes(int64(len(out)))
}

func BenchmarkParseTask(b *testing.B) {
	for name, line := range map[string]string{
		"plain": `{"task_id":"task-00000001","attempt":1,"data":{"num1":        1, "num2":        2}}`,
		"other": `{"attempt": 1, "task_id": "task-00000001", "data": {"num1": 1, "num2": 2}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseTask([]byte(line)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
