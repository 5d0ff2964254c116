package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// properties are the -X settings, sorted by who needs them.
type properties struct {
	servers     string    // bootstrap.servers
	opts        []kgo.Opt // for every client
	compression string    // compression.type
	acks        string    // acks
	linger      time.Duration
	delivery    time.Duration // delivery.timeout.ms, at least a second; 0: the default
	tls         *tls.Config
	values      map[string]string // as given, under the Java clients' names
}

// aliases maps librdkafka's names, and older ones, to the Java clients'.
var aliases = map[string]string{
	"metadata.broker.list":                "bootstrap.servers",
	"request.required.acks":               "acks",
	"compression.codec":                   "compression.type",
	"queue.buffering.max.ms":              "linger.ms",
	"message.timeout.ms":                  "delivery.timeout.ms",
	"fetch.wait.max.ms":                   "fetch.max.wait.ms",
	"fetch.message.max.bytes":             "max.partition.fetch.bytes",
	"socket.timeout.ms":                   "request.timeout.ms",
	"sasl.mechanisms":                     "sasl.mechanism",
	"enable.ssl.certificate.verification": "ssl.verify",
}

// propertyTable says what each setting does. Those that act together (TLS, SASL) are put together afterwards.
var propertyTable = map[string]func(p *properties, value string) error{
	"bootstrap.servers":         func(p *properties, v string) error { p.servers = v; return nil },
	"client.id":                 text(kgo.ClientID),
	"client.rack":               text(kgo.Rack),
	"acks":                      func(p *properties, v string) error { p.acks = v; return nil },
	"compression.type":          func(p *properties, v string) error { p.compression = v; return nil },
	"linger.ms":                 millis(func(p *properties, d time.Duration) { p.linger = d }),
	"delivery.timeout.ms":       millis(func(p *properties, d time.Duration) { p.delivery = max(d, time.Second) }),
	"request.timeout.ms":        millis(func(p *properties, d time.Duration) { p.opts = append(p.opts, kgo.RequestTimeoutOverhead(d)) }),
	"fetch.max.wait.ms":         millis(func(p *properties, d time.Duration) { p.opts = append(p.opts, kgo.FetchMaxWait(d)) }),
	"fetch.min.bytes":           size(kgo.FetchMinBytes),
	"fetch.max.bytes":           size(kgo.FetchMaxBytes),
	"max.partition.fetch.bytes": size(kgo.FetchMaxPartitionBytes),
	"security.protocol":         oneOf("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
	"sasl.mechanism":            oneOf("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
	"sasl.username":             oneOf(),
	"sasl.password":             oneOf(),
	"ssl.ca.location":           oneOf(),
	"ssl.certificate.location":  oneOf(),
	"ssl.key.location":          oneOf(),
	"ssl.verify":                oneOf("TRUE", "FALSE"),
}

func text[O kgo.Opt](opt func(string) O) func(*properties, string) error {
	return func(p *properties, v string) error { p.opts = append(p.opts, opt(v)); return nil }
}

func millis(set func(*properties, time.Duration)) func(*properties, string) error {
	return func(p *properties, v string) error {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return fmt.Errorf("%q is not a number of milliseconds", v)
		}
		set(p, time.Duration(n)*time.Millisecond)
		return nil
	}
}

func size[O kgo.Opt](opt func(int32) O) func(*properties, string) error {
	return func(p *properties, v string) error {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is not a number of bytes", v)
		}
		p.opts = append(p.opts, opt(int32(n)))
		return nil
	}
}

// oneOf accepts one of some words in either case; any value if there are none. The value is looked up later.
func oneOf(words ...string) func(*properties, string) error {
	return func(_ *properties, v string) error {
		if len(words) > 0 && !slices.Contains(words, strings.ToUpper(v)) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(words, ", "))
		}
		return nil
	}
}

// PropertyNames returns the names that -X knows, sorted.
func PropertyNames() []string { return slices.Sorted(maps.Keys(propertyTable)) }

func parseProperties(pairs []string) (properties, error) {
	p := properties{values: map[string]string{}}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			return p, &Error{Message: fmt.Sprintf("-X %q is not key=value", pair), Next: "for example -X client.id=me"}
		}
		if alias, ok := aliases[key]; ok {
			key = alias
		}
		set, ok := propertyTable[key]
		if !ok {
			return p, &Error{Message: "-X does not know " + key, Next: "it knows " + strings.Join(PropertyNames(), ", ")}
		}
		if err := set(&p, value); err != nil {
			return p, &Error{Message: "-X " + key, Err: err}
		}
		p.values[key] = value
	}
	return p, p.secure()
}

// secure adds TLS and the login.
func (p *properties) secure() error {
	protocol := strings.ToUpper(p.values["security.protocol"])
	if strings.HasSuffix(protocol, "SSL") {
		p.tls = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: strings.EqualFold(p.values["ssl.verify"], "false")}
		if file := p.values["ssl.ca.location"]; file != "" {
			pem, err := os.ReadFile(file)
			if err != nil {
				return &Error{Message: "-X ssl.ca.location", Err: err}
			}
			p.tls.RootCAs = x509.NewCertPool()
			if !p.tls.RootCAs.AppendCertsFromPEM(pem) {
				return &Error{Message: "-X ssl.ca.location: " + file + " holds no certificate in PEM form"}
			}
		}
		if file := p.values["ssl.certificate.location"]; file != "" {
			certificate, err := tls.LoadX509KeyPair(file, p.values["ssl.key.location"])
			if err != nil {
				return &Error{Message: "-X ssl.certificate.location and ssl.key.location", Err: err}
			}
			p.tls.Certificates = []tls.Certificate{certificate}
		}
		p.opts = append(p.opts, kgo.DialTLSConfig(p.tls))
	}
	user, password := p.values["sasl.username"], p.values["sasl.password"]
	if !strings.HasPrefix(protocol, "SASL") {
		if user != "" {
			return &Error{Message: "-X sasl.username needs a protocol with a login", Next: "add -X security.protocol=SASL_SSL or SASL_PLAINTEXT"}
		}
		return nil
	}
	var mechanism sasl.Mechanism
	switch strings.ToUpper(p.values["sasl.mechanism"]) {
	case "", "PLAIN":
		mechanism = plain.Auth{User: user, Pass: password}.AsMechanism()
	case "SCRAM-SHA-256":
		mechanism = scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		mechanism = scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	}
	p.opts = append(p.opts, kgo.SASL(mechanism))
	return nil
}
