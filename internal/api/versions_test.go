package api

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var update = flag.Bool("update", false, "write generated files anew")

// missing are the APIs that Apache Kafka 4.3 shows and this broker does not serve yet. The list may only shrink.
var missing = map[int16]string{
	17: "SASLHandshake",
	29: "DescribeACLs", 30: "CreateACLs", 31: "DeleteACLs",
	36: "SASLAuthenticate",
	38: "CreateDelegationToken", 39: "RenewDelegationToken", 40: "ExpireDelegationToken", 41: "DescribeDelegationToken",
	48: "DescribeClientQuotas", 49: "AlterClientQuotas",
	50: "DescribeUserSCRAMCredentials", 51: "AlterUserSCRAMCredentials",
	80: "AddRaftVoter", 81: "RemoveRaftVoter",
}

// reference is what a broker of Apache Kafka 4.3.1 answered to ApiVersions v4.
func reference(t *testing.T) *kmsg.ApiVersionsResponse {
	t.Helper()
	golden, err := os.ReadFile("testdata/golden/apiversions-v4-kafka-4.3.1.bin")
	if err != nil {
		t.Fatal(err)
	}
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.SetVersion(4)
	if err := resp.ReadFrom(golden); err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestVersionRangesAreThoseOfTheReference(t *testing.T) {
	t.Parallel()
	want := map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range reference(t).ApiKeys {
		want[k.ApiKey] = k
	}
	served := map[int16]bool{}
	for _, row := range table() {
		served[row.key] = true
		k, ok := want[row.key]
		switch {
		case !ok:
			t.Errorf("%s is served, but the reference does not show it", kmsg.NameForKey(row.key))
		case row.shownMin != k.MinVersion || row.max != k.MaxVersion:
			t.Errorf("%s is shown as v%d–%d, want v%d–%d", kmsg.NameForKey(row.key), row.shownMin, row.max, k.MinVersion, k.MaxVersion)
		}
		if missing[row.key] != "" {
			t.Errorf("%s is served: take it off the list of what is missing", kmsg.NameForKey(row.key))
		}
	}
	for key := range want {
		if !served[key] && missing[key] == "" {
			t.Errorf("%s v%d–%d is neither served nor listed as missing", kmsg.NameForKey(key), want[key].MinVersion, want[key].MaxVersion)
		}
	}
	for key, name := range missing {
		if _, ok := want[key]; !ok {
			t.Errorf("%s (%d) is listed as missing, but the reference does not show it", name, key)
		}
	}
}

func TestAPIVersionsShowsTheTable(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for version := int16(0); version <= 4; version++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "a-client", "1.2.3"
		resp := ask[*kmsg.ApiVersionsResponse](b.client(), req)
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(table()) {
			t.Errorf("v%d: code %d, %d keys, want 0 and %d", version, resp.ErrorCode, len(resp.ApiKeys), len(table()))
		}
		if k := resp.ApiKeys[0]; k.ApiKey != 0 || k.MinVersion != 0 || k.MaxVersion != 13 {
			t.Errorf("v%d: the first key is %+v, want Produce 0–13", version, k)
		}
		if version < 3 {
			continue
		}
		finalized := map[string]int16{}
		for _, f := range resp.FinalizedFeatures {
			finalized[f.Name] = f.MaxVersionLevel
		}
		if !maps.Equal(finalized, map[string]int16{"group.version": 1, "share.version": 1, "streams.version": 1, "transaction.version": 2}) {
			t.Errorf("v%d: finalized features %+v", version, resp.FinalizedFeatures)
		}
		if want := int(version-3) * len(finalized); len(resp.SupportedFeatures) != want {
			t.Errorf("v%d: supported features %+v, want %d", version, resp.SupportedFeatures, want)
		}
	}
}

func TestUnknownAPIVersionsVersionIsAnsweredAtVersion0(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for _, version := range []int16{5, 100} {
		c := b.client()
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version = version
		c.send(req)
		v0 := kmsg.NewPtrApiVersionsRequest()
		resp := answered[*kmsg.ApiVersionsResponse](c, v0)
		if resp.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("v%d: code %d, want UNSUPPORTED_VERSION", version, resp.ErrorCode)
		}
		if len(resp.ApiKeys) != 1 || resp.ApiKeys[0].ApiKey != 18 || resp.ApiKeys[0].MaxVersion != 4 {
			t.Errorf("v%d: keys %+v, want ApiVersions 0–4", version, resp.ApiKeys)
		}
		if got := ask[*kmsg.ApiVersionsResponse](c, v0); got.ErrorCode != 0 {
			t.Errorf("v%d: the next request on the connection got code %d", version, got.ErrorCode)
		}
	}
}

func TestClientSoftwareNameIsChecked(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for _, name := range []string{"", "-a", "a b", "a\x00", "ä"} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, name, "1"
		if resp := ask[*kmsg.ApiVersionsResponse](b.client(), req); resp.ErrorCode != kerr.InvalidRequest.Code {
			t.Errorf("name %q: code %d, want INVALID_REQUEST", name, resp.ErrorCode)
		}
	}
}

func TestWhatIsNotServedClosesTheConnection(t *testing.T) {
	t.Parallel()
	b := newBroker(t)
	for key := int16(0); key < 100; key++ {
		req := kmsg.RequestForKey(key)
		if req == nil {
			continue
		}
		row, served := b.api.row(key)
		if !served {
			b.client().closedBy(req)
			continue
		}
		for _, version := range []int16{row.min - 1, row.max + 1} {
			if version >= 0 && key != 18 {
				req.SetVersion(version)
				b.client().closedBy(req)
			}
		}
	}
}

// TestProtocolPageIsUpToDate compares docs/protocol.md with the table; -update writes it.
func TestProtocolPageIsUpToDate(t *testing.T) {
	t.Parallel()
	const path = "../../docs/protocol.md"
	page := protocolPage(t)
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != page {
		t.Errorf("%s is out of date: go test ./internal/api -run ProtocolPage -update", path)
	}
}

func protocolPage(t *testing.T) string {
	t.Helper()
	var page strings.Builder
	page.WriteString("# Protocol coverage\n\n")
	page.WriteString("Generated from the table of APIs (`internal/api/table.go`) and from what Apache Kafka 4.3.1 shows; do not edit.\n\n")
	page.WriteString("Versions are the same as Kafka's wherever an API is served. What each handler does, version by version, and what it\n")
	page.WriteString("leaves out on purpose, is written at the top of its file in `internal/api`.\n\n")
	page.WriteString("| key | API | Kafka 4.3 | Ottla |\n|---:|---|---|---|\n")
	rows := map[int16]api{}
	for _, row := range table() {
		rows[row.key] = row
	}
	served := 0
	kafka := reference(t).ApiKeys
	byKey := map[int16]kmsg.ApiVersionsResponseApiKey{}
	highest := int16(0)
	for _, k := range kafka {
		byKey[k.ApiKey] = k
		highest = max(highest, k.ApiKey)
	}
	for key := int16(0); key <= highest; key++ {
		k, ok := byKey[key]
		if !ok {
			continue
		}
		have := "not yet"
		if row, ok := rows[key]; ok {
			served++
			have = versionRange(row.min, row.max)
			if row.shownMin != row.min {
				have += fmt.Sprintf(" (shown from %d)", row.shownMin)
			}
		}
		fmt.Fprintf(&page, "| %d | %s | %s | %s |\n", key, kmsg.NameForKey(key), versionRange(k.MinVersion, k.MaxVersion), have)
	}
	fmt.Fprintf(&page, "\n%d of %d APIs.\n", served, len(kafka))
	return page.String()
}

func versionRange(low, high int16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d–%d", low, high)
}
