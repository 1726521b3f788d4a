package infra

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsathena"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/jsii-runtime-go"
)

const (
	// maxScan is how many bytes one query may read: at five dollars for a TB, a mistake
	// costs cents.
	maxScan = 20 << 30
	// athenaPrefix is where the results of queries are in the log bucket.
	athenaPrefix = "athena"

	cdnTable, bucketTable = "cdn_requests", "bucket_requests"
)

// A column of a table, with the name that the log gives it.
type column struct{ name, logged string }

// cdnColumns are the fields of CloudFront's access log, version 2, which are all strings.
var cdnColumns = func() []column {
	var all []column
	for _, field := range []string{
		"date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)", "cs-uri-stem", "sc-status", "cs(Referer)", "cs(User-Agent)",
		"cs-uri-query", "x-edge-result-type", "x-edge-request-id", "x-host-header", "cs-protocol", "cs-bytes", "time-taken", "ssl-protocol",
		"x-edge-response-result-type", "cs-protocol-version", "time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type", "sc-content-len",
		"sc-range-start", "sc-range-end",
	} {
		name := strings.TrimRight(strings.NewReplacer("-", "_", "(", "_", ")", "").Replace(strings.ToLower(field)), "_")
		all = append(all, column{name, field})
	}
	return all
}()

// bucketColumns are the fields of S3's server access log, in their order.
var bucketColumns = strings.Fields("bucket_owner bucket_name requested remote_ip requester request_id operation object_key request_uri http_status error_code " +
	"bytes_sent object_size total_time turn_around_time referrer user_agent version_id host_id sigv cipher_suite auth_type endpoint tls_version access_point_arn acl_required")

// bucketLine is the form of a line of S3's server access log, as AWS's manual gives it:
// one group for each column, of which older lines lack the last.
const bucketLine = `([^ ]*) ([^ ]*) \[(.*?)\] ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) (-|[0-9]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) ([^ ]*)` +
	`(?: ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*))?.*$`

// A savedQuery answers a question that operators of a cache ask.
type savedQuery struct{ name, description, sql string }

var savedQueries = []savedQuery{
	{"most-downloaded", "What readers download most, by bytes", `SELECT cs_uri_stem, count(*) AS requests, sum(try_cast(sc_bytes AS bigint)) AS bytes
FROM cdn_requests WHERE sc_status IN ('200', '206') GROUP BY cs_uri_stem ORDER BY bytes DESC LIMIT 100`},
	{"missing", "What readers ask for that is not there", `SELECT cs_uri_stem, count(*) AS requests
FROM cdn_requests WHERE sc_status = '404' GROUP BY cs_uri_stem ORDER BY requests DESC LIMIT 100`},
	{"errors", "Requests that failed, and how", `SELECT "date", "time", sc_status, x_edge_detailed_result_type, cs_uri_stem, x_edge_request_id
FROM cdn_requests WHERE sc_status LIKE '5%' ORDER BY "date" DESC, "time" DESC LIMIT 200`},
	{"hit-rate", "Which part of the requests and bytes comes from the edge, by day", `SELECT "date", count(*) AS requests,
  100.0 * count_if(x_edge_result_type IN ('Hit', 'RefreshHit')) / count(*) AS hit_percent, sum(try_cast(sc_bytes AS bigint)) AS bytes
FROM cdn_requests GROUP BY "date" ORDER BY "date" DESC`},
	{"clients", "Which versions of Spack and other programs read the cache", `SELECT cs_user_agent, count(DISTINCT c_ip) AS addresses, count(*) AS requests
FROM cdn_requests GROUP BY cs_user_agent ORDER BY requests DESC LIMIT 50`},
	{"writes", "Who wrote and deleted what in the bucket", `SELECT requested, requester, operation, object_key, http_status, error_code, remote_ip
FROM bucket_requests WHERE operation LIKE 'REST.PUT%' OR operation LIKE 'REST.POST%' OR operation LIKE '%DELETE%'
ORDER BY parse_datetime(requested, 'dd/MMM/yyyy:HH:mm:ss Z') DESC LIMIT 500`},
	{"denied", "Which requests to the bucket were denied", `SELECT requested, requester, remote_ip, operation, object_key, error_code
FROM bucket_requests WHERE http_status = '403' ORDER BY parse_datetime(requested, 'dd/MMM/yyyy:HH:mm:ss Z') DESC LIMIT 500`},
}

// database is the name of the tables' database. Glue takes no capitals and no hyphens.
func (c Config) database() string {
	return strings.ReplaceAll(strings.ToLower(c.StackName), "-", "_")
}

// newAthena makes the logs readable by SQL: two tables over the log bucket, saved
// queries, and a workgroup that bounds what a query may cost.
func newAthena(stack awscdk.Stack, c Config, logs awss3.IBucket) {
	if !c.Athena {
		return
	}
	bucket := "s3://" + *logs.BucketName() + "/"
	database := newGlue(stack, "LogDatabase", "AWS::Glue::Database", map[string]any{
		"CatalogId":     stack.Account(),
		"DatabaseInput": map[string]any{"Name": c.database(), "Description": "Access logs of the Spack buildcache"},
	})
	mapping := map[string]string{"case.insensitive": "false", "ignore.malformed.json": "true"}
	var names []string
	for _, f := range cdnColumns {
		names = append(names, f.name)
		if f.name != f.logged {
			mapping["mapping."+f.name] = f.logged
		}
	}
	newTable(stack, c, database, "CdnRequests", cdnTable, "Requests of readers to the CDN", bucket+"AWSLogs/"+*stack.Account()+"/CloudFront/",
		"org.openx.data.jsonserde.JsonSerDe", mapping, names)
	newTable(stack, c, database, "BucketRequests", bucketTable, "Requests to the bucket, of the CDN and of publishers", bucket+"s3/",
		"org.apache.hadoop.hive.serde2.RegexSerDe", map[string]string{"input.regex": bucketLine}, bucketColumns)

	group := awsathena.NewCfnWorkGroup(stack, jsii.String("LogWorkGroup"), &awsathena.CfnWorkGroupProps{
		Name:        jsii.String(c.StackName),
		Description: jsii.String("Queries over the access logs of the Spack buildcache"),
		// Its saved queries and history go with the stack.
		RecursiveDeleteOption: jsii.Bool(true),
		WorkGroupConfiguration: &awsathena.CfnWorkGroup_WorkGroupConfigurationProperty{
			EnforceWorkGroupConfiguration:   jsii.Bool(true),
			PublishCloudWatchMetricsEnabled: jsii.Bool(false),
			BytesScannedCutoffPerQuery:      jsii.Number(maxScan),
			ResultConfiguration: &awsathena.CfnWorkGroup_ResultConfigurationProperty{
				OutputLocation:          jsii.String(bucket + athenaPrefix + "/"),
				EncryptionConfiguration: &awsathena.CfnWorkGroup_EncryptionConfigurationProperty{EncryptionOption: jsii.String("SSE_S3")},
			},
		},
	})
	for _, q := range savedQueries {
		saved := awsathena.NewCfnNamedQuery(stack, jsii.String("Query"+pascal(q.name)), &awsathena.CfnNamedQueryProps{
			Name: jsii.String(q.name), Description: jsii.String(q.description), Database: jsii.String(c.database()),
			QueryString: jsii.String(q.sql), WorkGroup: group.Name(),
		})
		saved.AddResourceDependency(group, nil)
	}
}

func newTable(stack awscdk.Stack, c Config, database awscdk.CfnResource, id, name, description, location, serde string, parameters map[string]string, columns []string) {
	typed := make([]any, 0, len(columns))
	for _, name := range columns {
		typed = append(typed, map[string]any{"Name": name, "Type": "string"})
	}
	table := newGlue(stack, id, "AWS::Glue::Table", map[string]any{
		"CatalogId":    stack.Account(),
		"DatabaseName": c.database(),
		"TableInput": map[string]any{
			"Name": name, "Description": description, "TableType": "EXTERNAL_TABLE",
			"StorageDescriptor": map[string]any{
				"Columns": typed, "Location": location,
				"InputFormat":  "org.apache.hadoop.mapred.TextInputFormat",
				"OutputFormat": "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
				"SerdeInfo":    map[string]any{"SerializationLibrary": serde, "Parameters": parameters},
			},
		},
	})
	table.AddResourceDependency(database, nil)
}

// newGlue is a resource of Glue in CloudFormation's own words: the typed bindings of Glue
// take longer to compile than those of CloudFront, for two types (docs/infra-tests.md).
func newGlue(stack awscdk.Stack, id, kind string, properties map[string]any) awscdk.CfnResource {
	return awscdk.NewCfnResource(stack, jsii.String(id), &awscdk.CfnResourceProps{Type: jsii.String(kind), Properties: &properties})
}
