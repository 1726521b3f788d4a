package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

const (
	plotWidth = 760
	labelEnd  = 190 // where names end and bars begin
	barsEnd   = 620 // of the longest bar; its numbers stand behind it
	rowHeight = 34
	plotTop   = 56
)

// plot draws the rows of a cell as bars: the wall time, and below it the processor time.
func plot(c Cell, rows []*Row) []byte {
	longest := 0.0
	for _, row := range rows {
		longest = max(longest, row.wall().Seconds(), row.cpu().Seconds())
	}
	step := tick(longest)
	scale := (barsEnd - labelEnd) / (math.Ceil(longest/step) * step)
	height := plotTop + rowHeight*len(rows) + 30

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" fill="#1f2328">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, height)
	text(&b, 10, 20, "start", "bold", upper(c.String()))
	legend(&b)
	for v := 0.0; v <= longest+step; v += step {
		x := labelEnd + v*scale
		if x > barsEnd+0.5 {
			break
		}
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#d8dee4"/>`+"\n", x, plotTop-6, x, height-24)
		text(&b, x, height-8, "middle", "normal", fmt.Sprintf("%g s", v))
	}
	for i, row := range rows {
		y := plotTop + i*rowHeight
		weight, color := "normal", "#8c959f"
		if row.client.Ours {
			weight, color = "bold", "#0969da"
		} else if isAlone(row.client) {
			color = "#54aeff"
		}
		text(&b, labelEnd-8, y+16, "end", weight, row.Client)
		if len(row.Runs) == 0 {
			text(&b, labelEnd+6, y+16, "start", "normal", row.Note)
			continue
		}
		bar(&b, y, 14, row.wall().Seconds()*scale, color)
		bar(&b, y+15, 7, row.cpu().Seconds()*scale, "#d4a72c")
		text(&b, labelEnd+max(row.wall().Seconds(), row.cpu().Seconds())*scale+6, y+14, "start", weight,
			fmt.Sprintf("%.2f s, %d MiB", row.wall().Seconds(), row.peak()>>20))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// tick is a round number of which four to nine make up the longest bar.
func tick(longest float64) float64 {
	if longest <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(longest)))
	for _, part := range []float64{0.1, 0.2, 0.5, 1} {
		if longest/(unit*part) <= 9 {
			return unit * part
		}
	}
	return unit * 2
}

func legend(b *bytes.Buffer) {
	fmt.Fprintf(b, `<rect x="10" y="30" width="10" height="10" fill="#8c959f"/>`+"\n")
	text(b, 25, 39, "start", "normal", "wall time")
	fmt.Fprintf(b, `<rect x="95" y="30" width="10" height="10" fill="#d4a72c"/>`+"\n")
	text(b, 110, 39, "start", "normal", "processor time of the client")
}

func bar(b *bytes.Buffer, y, height int, width float64, color string) {
	fmt.Fprintf(b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", labelEnd, y, max(width, 1), height, color)
}

func text(b *bytes.Buffer, x float64, y int, anchor, weight, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="%s" font-weight="%s">`, x, y, anchor, weight)
	xml.EscapeText(b, []byte(s))
	b.WriteString("</text>\n")
}

// plotCrowds draws how long publishers take by how many begin at once: the slowest, and below it the median.
func plotCrowds(c Cell, crowds []*Crowd) []byte {
	longest := 0.0
	for _, crowd := range crowds {
		longest = max(longest, crowd.slowest().Seconds())
	}
	step := tick(longest)
	scale := (barsEnd - labelEnd) / (math.Ceil(longest/step) * step)
	height := plotTop + rowHeight*len(crowds) + 30
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui, sans-serif" font-size="12" fill="#1f2328">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, height)
	text(&b, 10, 20, "start", "bold", upper(c.String()))
	fmt.Fprintf(&b, `<rect x="10" y="30" width="10" height="10" fill="#0969da"/>`+"\n")
	text(&b, 25, 39, "start", "normal", "the slowest publisher")
	fmt.Fprintf(&b, `<rect x="155" y="30" width="10" height="10" fill="#54aeff"/>`+"\n")
	text(&b, 170, 39, "start", "normal", "the median")
	for v := 0.0; labelEnd+v*scale <= barsEnd+0.5; v += step {
		x := labelEnd + v*scale
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#d8dee4"/>`+"\n", x, plotTop-6, x, height-24)
		text(&b, x, height-8, "middle", "normal", fmt.Sprintf("%g s", v))
	}
	for i, crowd := range crowds {
		y := plotTop + i*rowHeight
		text(&b, labelEnd-8, y+16, "end", "bold", fmt.Sprintf("%d at once", crowd.Publishers))
		bar(&b, y, 14, crowd.slowest().Seconds()*scale, "#0969da")
		bar(&b, y+15, 7, crowd.at(0.5).Seconds()*scale, "#54aeff")
		text(&b, labelEnd+crowd.slowest().Seconds()*scale+6, y+14, "start", "bold",
			fmt.Sprintf("%.2f s, %.1f bodies", crowd.slowest().Seconds(), crowd.Bodies))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
