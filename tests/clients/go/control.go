package main

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/status"
)

// long is a query that runs for minutes.
const long = "SELECT sum(sin(a.range) * b.range) AS s FROM range(10000000) a, range(100000) b"

func options(s *session) {
	show("set options", func() (any, error) {
		values, err := flight.NewSessionOptionValues(map[string]any{"schema": "testing", "nonsense": "x"})
		if err != nil {
			return nil, err
		}
		result, err := s.client.SetSessionOptions(s.ctx, &flight.SetSessionOptionsRequest{SessionOptions: values})
		refused := map[string]string{}
		for name, problem := range result.GetErrors() {
			refused[name] = problem.GetValue().String()
		}
		return refused, err
	})
	show("get options", func() (any, error) {
		result, err := s.client.GetSessionOptions(s.ctx, &flight.GetSessionOptionsRequest{})
		options := map[string]string{}
		for name, option := range result.GetSessionOptions() {
			options[name] = option.GetStringValue()
		}
		return options, err
	})
	show("query of the session's schema", func() (any, error) { return s.query("SELECT species FROM animals") })
	show("actions", func() (any, error) {
		stream, err := s.client.Client.ListActions(s.ctx, &flight.Empty{})
		if err != nil {
			return nil, err
		}
		actions := []string{}
		for action, err := stream.Recv(); err == nil; action, err = stream.Recv() {
			actions = append(actions, action.Type)
		}
		sort.Strings(actions)
		return actions, nil
	})
}

// ended reads a query that something else ends; it gives the status, and whether that took under a second.
func (s *session) ended(ctx context.Context, info *flight.FlightInfo, cancel func()) (any, error) {
	at := time.Now().Add(300 * time.Millisecond)
	time.AfterFunc(300*time.Millisecond, cancel)
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	reader, err := s.client.DoGet(ctx, info.Endpoint[0].Ticket)
	if err == nil {
		for reader.Next() {
		}
		err = reader.Err()
		reader.Release()
	}
	if err == nil {
		return nil, errors.New("it ran to its end")
	}
	return []any{status.Code(err).String(), time.Since(at) < time.Second}, nil
}

func cancelling(s *session) {
	show("cancel by action", func() (any, error) {
		info, err := s.client.Execute(s.ctx, long)
		if err != nil {
			return nil, err
		}
		return s.ended(s.ctx, info, func() {
			result, err := s.client.CancelFlightInfo(s.ctx, &flight.CancelFlightInfoRequest{Info: info})
			show("cancel", func() (any, error) { return result.GetStatus().String(), err })
		})
	})
	show("cancel by deprecated action", func() (any, error) {
		info, err := s.client.Execute(s.ctx, long)
		if err != nil {
			return nil, err
		}
		return s.ended(s.ctx, info, func() {
			result, err := s.client.CancelQuery(s.ctx, info)
			show("deprecated cancel", func() (any, error) { return int(result), err })
		})
	})
	show("cancel by context", func() (any, error) {
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		info, err := s.client.Execute(ctx, long)
		if err != nil {
			return nil, err
		}
		return s.ended(ctx, info, cancel)
	})
	show("deadline", func() (any, error) {
		ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
		defer cancel()
		info, err := s.client.Execute(ctx, long)
		if err != nil {
			return nil, err
		}
		return s.ended(ctx, info, func() {})
	})
	show("afterwards", func() (any, error) { return s.query("SELECT 1::INTEGER AS one") })
}

func polling(s *session) {
	show("poll", func() (any, error) {
		var retry *flight.FlightDescriptor
		for range 200 {
			poll, err := s.client.ExecutePoll(s.ctx, "SELECT count(*) AS n FROM range(300000000)", retry)
			if err != nil {
				return nil, err
			}
			if retry = poll.FlightDescriptor; retry == nil {
				return s.fetch(poll.Info, nil)
			}
			if poll.Progress != nil && (*poll.Progress < 0 || *poll.Progress > 1) {
				return nil, errors.New("the progress is not between 0 and 1")
			}
		}
		return nil, errors.New("it did not finish in 200 polls")
	})
	show("cancel a poll", func() (any, error) {
		poll, err := s.client.ExecutePoll(s.ctx, long, nil)
		if err != nil {
			return nil, err
		}
		result, err := s.client.CancelFlightInfo(s.ctx, &flight.CancelFlightInfoRequest{Info: poll.Info})
		if err != nil {
			return nil, err
		}
		_, err = s.client.ExecutePoll(s.ctx, long, poll.FlightDescriptor)
		return []any{result.GetStatus().String(), status.Code(err).String()}, nil
	})
	show("renew", func() (any, error) {
		info, err := s.client.Execute(s.ctx, "SELECT 7::INTEGER AS seven")
		if err != nil {
			return nil, err
		}
		before := info.Endpoint[0]
		renewed, err := s.client.RenewFlightEndpoint(s.ctx, &flight.RenewFlightEndpointRequest{Endpoint: before})
		if err != nil {
			return nil, err
		}
		if before.ExpirationTime == nil || renewed.ExpirationTime.AsTime().Before(before.ExpirationTime.AsTime()) {
			return nil, errors.New("the endpoint does not live longer")
		}
		info.Endpoint[0] = renewed
		return s.fetch(info, nil)
	})
	show("poll of metadata", func() (any, error) {
		info, err := s.client.GetCatalogs(s.ctx)
		if err != nil {
			return nil, err
		}
		poll, err := s.client.Client.PollFlightInfo(s.ctx, info.FlightDescriptor)
		if err != nil {
			return nil, err
		}
		return s.fetch(poll.Info, nil)
	})
}
