package report

import "math"

const (
	// perOctave is the number of buckets of a histogram between a value and its double. The width of a
	// bucket is 4.4 percent of its values.
	perOctave = 16
	octaves   = 60
)

// A histogram counts positive values in buckets of equal width on a logarithmic scale. Values below the
// unit are counted in the first bucket.
type histogram struct {
	unit     float64
	counts   [perOctave * octaves]int64
	n        int64
	sum      float64
	min, max float64
}

func newHistogram(unit float64) *histogram { return &histogram{unit: unit} }

func (h *histogram) add(v float64) {
	i := 0
	if v > h.unit {
		i = min(int(math.Log2(v/h.unit)*perOctave), len(h.counts)-1)
	}
	h.counts[i]++
	if h.n == 0 || v < h.min {
		h.min = v
	}
	if h.n == 0 || v > h.max {
		h.max = v
	}
	h.n++
	h.sum += v
}

// lower returns the lower bound of a bucket.
func (h *histogram) lower(i int) float64 { return h.unit * math.Exp2(float64(i)/perOctave) }

// quantile returns an estimate of the q-quantile. Its relative error is at most half the width of a bucket.
func (h *histogram) quantile(q float64) float64 {
	rank := int64(math.Ceil(q * float64(h.n)))
	for i, n := range h.counts {
		if rank -= n; rank <= 0 {
			middle := math.Sqrt(h.lower(i) * h.lower(i+1))
			return min(max(middle, h.min), h.max)
		}
	}
	return h.max
}

// maxBars is the maximum number of bars of a histogram in a report.
const maxBars = 48

// distribution returns the histogram in the form of a report, or nil if it has no values.
func (h *histogram) distribution() *Distribution {
	if h.n == 0 {
		return nil
	}
	d := &Distribution{
		Count: h.n, Mean: h.sum / float64(h.n), Min: h.min, Max: h.max,
		P50: h.quantile(0.5), P90: h.quantile(0.9), P95: h.quantile(0.95), P99: h.quantile(0.99), P999: h.quantile(0.999),
	}
	first, last := -1, 0
	for i, n := range h.counts {
		if n > 0 {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	step := 1
	for (last/step - first/step + 1) > maxBars {
		step *= 2
	}
	for i := first / step; i <= last/step; i++ {
		bar := Bar{From: h.lower(i * step), To: h.lower((i + 1) * step)}
		if i == 0 {
			bar.From = 0
		}
		for _, n := range h.counts[i*step : min((i+1)*step, len(h.counts))] {
			bar.Count += n
		}
		d.Bars = append(d.Bars, bar)
	}
	return d
}
