package mirror

// Split cuts a range of about so many objects at one or two characters after its prefix if the range holds more
// than a page. It returns at most one range for each page, because each range takes at least one answer, and that
// answer may extend beyond the end of the range.
func (r Range) Split(alphabet string, objects, page int64) []Range {
	if objects <= page {
		return []Range{r}
	}
	var bounds []string
	for _, c := range alphabet {
		bounds = append(bounds, r.Prefix+string(c))
		if objects > page*int64(len(alphabet)) {
			for _, d := range alphabet[1:] {
				bounds = append(bounds, r.Prefix+string(c)+string(d))
			}
		}
	}
	ranges := make([]Range, 0, len(bounds)+1)
	after, pages := r.After, objects/page
	for i, b := range bounds {
		if n := int64(len(bounds)); pages < n && int64(i)*pages/n == int64(i-1)*pages/n {
			continue // enough ranges: skip this boundary
		}
		ranges = append(ranges, Range{Prefix: r.Prefix, After: after, Until: b})
		after = b
	}
	return append(ranges, Range{Prefix: r.Prefix, After: after})
}
