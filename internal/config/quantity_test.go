package config

import "testing"

func TestMemory_AcceptsUnits(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int64{
		"4": 4 * gib, "0.5": gib / 2, "1e1": 10 * gib, "4GB": 4 * gib, "2GiB": 2 * gib, "1.5G": 3 * gib / 2,
		"500M": 500 * mib, "500MB": 500 * mib, "500mb": 500 * mib, "2gib": 2 * gib, "500MiB": 500 * mib, "64 KiB": 64 * kib, "1T": tib, "0.5TiB": tib / 2,
	} {
		if got, err := memory("").parse(raw); err != nil || got != want {
			t.Errorf("%s: %d bytes, error %v; want %d", raw, got, err, want)
		}
	}
}

func TestSize_AcceptsUnits(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int64{"65536": 65536, "16MiB": 16 * mib, "16M": 16 * mib, "1 KiB": kib, "3G": 3 * gib, "1TiB": tib, "1.5G": 3 * gib / 2, "16MB": 16 * mib, "16mib": 16 * mib, "0.5k": kib / 2} {
		got, err := size("").parse(raw)
		if err != nil || got != want {
			t.Errorf("%s: %d bytes, error %v; want %d", raw, got, err, want)
		}
		if again, err := size("").parse(size("").format(got)); err != nil || again != got {
			t.Errorf("%s: printed as %s, which is read as %d, error %v", raw, size("").format(got), again, err)
		}
	}
}

func TestGigabytes_AcceptsUnits(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]float64{"16": 16, "0.5": 0.5, "16GB": 16, "16GiB": 16, "512M": 0.5, "2T": 2048, "1tb": 1024} {
		if got, err := gigabytes("").parse(raw); err != nil || got != want {
			t.Errorf("%s: %v GB, error %v; want %v", raw, got, err, want)
		}
	}
	for _, raw := range []string{"M", "", "16X", "-1G", "1 6G"} {
		if got, err := gigabytes("").parse(raw); err == nil {
			t.Errorf("%q: %v GB, want an error", raw, got)
		}
	}
}
