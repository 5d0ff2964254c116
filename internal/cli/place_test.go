package cli

import (
	"testing"
	"time"
)

func TestParsePlace(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_800_000_000_000)
	at := func(ms int64) Place { return Place{kind: placeTime, n: ms} }
	for s, want := range map[string]Place{
		"earliest":                     {kind: placeEarliest},
		"beginning":                    {kind: placeEarliest},
		"latest":                       {kind: placeLatest},
		"end":                          {kind: placeLatest},
		"0":                            {kind: placeOffset},
		"42":                           {kind: placeOffset, n: 42},
		"-3":                           {kind: placeLast, n: 3},
		"-0":                           {kind: placeLast},
		"now":                          at(now.UnixMilli()),
		"@1700000000000":               at(1_700_000_000_000),
		"@now":                         at(now.UnixMilli()),
		"-10m":                         at(now.UnixMilli() - 600_000),
		"@-10m":                        at(now.UnixMilli() - 600_000),
		"@-7d":                         at(now.UnixMilli() - 7*86_400_000),
		"@-1d12h":                      at(now.UnixMilli() - 36*3_600_000),
		"@2026-01-31T09:30:00Z":        at(time.Date(2026, 1, 31, 9, 30, 0, 0, time.UTC).UnixMilli()),
		"@2026-01-31T09:30:00.5+01:00": at(time.Date(2026, 1, 31, 8, 30, 0, 500_000_000, time.UTC).UnixMilli()),
		"@2026-01-31":                  at(time.Date(2026, 1, 31, 0, 0, 0, 0, time.Local).UnixMilli()),
		"@2026-01-31 09:30":            at(time.Date(2026, 1, 31, 9, 30, 0, 0, time.Local).UnixMilli()),
	} {
		if got, err := ParsePlace(s, now); err != nil || got != want {
			t.Errorf("%q is %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "@", "tomorrow", "@-", "@10m", "1.5", "--3", "@2026-13-01", "-9223372036854775808"} {
		got, err := ParsePlace(s, now)
		if err == nil {
			t.Errorf("%q is taken for %+v", s, got)
		} else if Next(err) == "" {
			t.Errorf("%q: the error does not say what there is", s)
		}
	}
}

func TestParseServers(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"localhost":       "localhost:9092",
		"a:1, b:2":        "a:1 b:2",
		"PLAINTEXT://a:1": "a:1",
		"[::1]:9093":      "[::1]:9093",
		"::1":             "[::1]:9092",
		"":                "",
		"a:port":          "",
		"a:70000":         "",
		"a:1:2":           "",
	} {
		servers, err := parseServers(s)
		got := ""
		for i, server := range servers {
			if i > 0 {
				got += " "
			}
			got += server
		}
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q is %q, %v; want %q", s, got, err, want)
		}
	}
}
