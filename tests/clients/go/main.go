// Command client uses the Go client of Flight SQL as an application does, against the server at the
// address it is given, and prints what each step gave, one JSON object a line.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// session is a connection, and the context that its calls carry headers in.
type session struct {
	client *flightsql.Client
	ctx    context.Context
}

// connect opens a connection whose calls carry the headers given as names and values in turn.
func connect(address string, headers ...string) (*session, error) {
	cookies := []flight.ClientMiddleware{flight.NewClientCookieMiddleware()}
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	client, err := flightsql.NewClient(address, nil, cookies, plain)
	if err != nil {
		return nil, err
	}
	client.Alloc = memory.DefaultAllocator
	return &session{client, metadata.AppendToOutgoingContext(context.Background(), headers...)}, nil
}

// show runs a step and prints its value, or its error with the gRPC code.
func show(name string, step func() (any, error)) {
	line := map[string]any{"name": name}
	if value, err := step(); err != nil {
		line["error"] = err.Error()
	} else {
		line["value"] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// fetch reads the rows behind a FlightInfo, after comparing the announced schema with the stream's.
func (s *session) fetch(info *flight.FlightInfo, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	rows := []any{}
	for _, endpoint := range info.Endpoint {
		found, err := s.read(info, endpoint)
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
	}
	return rows, nil
}

func (s *session) read(info *flight.FlightInfo, endpoint *flight.FlightEndpoint) ([]any, error) {
	reader, err := s.client.DoGet(s.ctx, endpoint.Ticket)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	announced, err := flight.DeserializeSchema(info.Schema, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	if !announced.Equal(reader.Schema()) {
		return nil, fmt.Errorf("announced %v, got %v", announced, reader.Schema())
	}
	rows := []any{}
	for reader.Next() {
		batch, err := reader.RecordBatch().MarshalJSON()
		if err != nil {
			return nil, err
		}
		var some []any
		if err := json.Unmarshal(batch, &some); err != nil {
			return nil, err
		}
		rows = append(rows, some...)
	}
	return rows, reader.Err()
}

func (s *session) query(sql string) (any, error) {
	return s.fetch(s.client.Execute(s.ctx, sql))
}

func names(schema *arrow.Schema) []string {
	fields := []string{}
	for _, field := range schema.Fields() {
		fields = append(fields, field.Name+" "+field.Type.String())
	}
	return fields
}

func main() {
	address := strings.TrimPrefix(os.Args[1], "grpc://")
	s, err := connect(address)
	if err != nil {
		panic(err)
	}
	queries(s, address)
	preparedStatements(s)
	catalog(s)
	transactions(s)
	writes(s)
	options(s)
	cancelling(s)
	polling(s)
	show("close", func() (any, error) {
		result, err := s.client.CloseSession(s.ctx, &flight.CloseSessionRequest{})
		return result.GetStatus().String(), err
	})
	s.client.Close()
}
