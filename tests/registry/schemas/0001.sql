BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE alias_moves (
	id INTEGER NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	from_id INTEGER, 
	to_id INTEGER, 
	at DATETIME NOT NULL, 
	actor VARCHAR(256) NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_alias_moves PRIMARY KEY (id), 
	CONSTRAINT fk_alias_moves_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_alias_moves_from_id FOREIGN KEY(from_id) REFERENCES versions (id), 
	CONSTRAINT fk_alias_moves_to_id FOREIGN KEY(to_id) REFERENCES versions (id)
);
INSERT INTO "alias_moves" VALUES(1,1,'production',NULL,1,'2026-11-22 07:35:40.308899','ada@example','registered');
INSERT INTO "alias_moves" VALUES(2,1,'staging',NULL,2,'2026-11-22 07:35:40.536415','ada@example','');
INSERT INTO "alias_moves" VALUES(3,1,'staging',2,NULL,'2026-11-22 07:35:40.540877','ada@example','');
INSERT INTO "alias_moves" VALUES(4,1,'production',1,2,'2026-11-22 07:35:42.780819','ada@example','gate passed against words@1: 1 checks, 2026-11-22 07:35:42 UTC');
CREATE TABLE aliases (
	id INTEGER NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	version_id INTEGER NOT NULL, 
	CONSTRAINT pk_aliases PRIMARY KEY (id), 
	CONSTRAINT fk_aliases_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_aliases_version_id FOREIGN KEY(version_id) REFERENCES versions (id), 
	CONSTRAINT uq_aliases_name UNIQUE (embedding_id, name)
);
INSERT INTO "aliases" VALUES(1,1,'production',2);
CREATE TABLE artifacts (
	id INTEGER NOT NULL, 
	version_digest VARCHAR(64) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_artifacts PRIMARY KEY (id), 
	CONSTRAINT uq_artifacts_name UNIQUE (version_digest, name)
);
INSERT INTO "artifacts" VALUES(1,'386faa3adfbcd9474df22950c22ad136c2a6cd6bab48547b858ea8f8f19b3553','moments','3fc5262726a1cca6e7da7706c9e1bf5e94ee5d650476d474ece44ccfaaf560bd','2026-11-22 07:35:40.631715');
INSERT INTO "artifacts" VALUES(2,'386faa3adfbcd9474df22950c22ad136c2a6cd6bab48547b858ea8f8f19b3553','neighbors','a093a4853bad51b2371188fd6f4c8edb60b7e3a656851cb0ba4af2190e6c2a1d','2026-11-22 07:35:41.367690');
CREATE TABLE builds (
	id INTEGER NOT NULL, 
	index_id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	method VARCHAR(16) NOT NULL, 
	faiss_digest VARCHAR(64) NOT NULL, 
	ids_digest VARCHAR(64) NOT NULL, 
	nbytes INTEGER NOT NULL, 
	rows INTEGER NOT NULL, 
	trained_rows INTEGER, 
	can_add BOOLEAN NOT NULL, 
	can_remove BOOLEAN NOT NULL, 
	recall DOUBLE, 
	recall_k INTEGER NOT NULL, 
	recall_queries INTEGER NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_builds PRIMARY KEY (id), 
	CONSTRAINT fk_builds_index_id FOREIGN KEY(index_id) REFERENCES indexes (id), 
	CONSTRAINT fk_builds_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "builds" VALUES(1,1,1,'build','3f4afb6d434f2f92cee424f0dfeb685acd8cbee610ef5f8e29205341de84ee75','10ed45a85175d16379d85e5cda6e9484d7900fb61c3369da621be4baca312b4f',3087,60,NULL,1,1,1.0,10,60,0.0844583310008602,'2026-11-22 07:35:40.431967');
INSERT INTO "builds" VALUES(2,2,1,'build','75c942dfe2d25d2c58f7561db194c8f8602c4055a2406a2b7cdfc99da12c0f69','10ed45a85175d16379d85e5cda6e9484d7900fb61c3369da621be4baca312b4f',8260,60,NULL,1,0,9.98333333333333294845e-01,10,60,1.68606259994703577831e-02,'2026-11-22 07:35:40.461884');
CREATE TABLE datasets (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	items INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_datasets PRIMARY KEY (id), 
	CONSTRAINT uq_datasets_name UNIQUE (name)
);
INSERT INTO "datasets" VALUES(1,'pairs','pairs','84733d75f6ab10acd43799143b1097e692f5f5272e40108a9ea3edc11b8fe232',20,'pairs.tsv','2026-11-22 07:35:40.482131');
CREATE TABLE embeddings (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_embeddings PRIMARY KEY (id), 
	CONSTRAINT uq_embeddings_name UNIQUE (name)
);
INSERT INTO "embeddings" VALUES(1,'words','2026-11-22 07:35:40.293945');
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	actor VARCHAR(256) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	subject VARCHAR(256) NOT NULL, 
	embedding VARCHAR(128), 
	detail JSON NOT NULL, 
	command TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1,'2026-11-22 07:35:40.301603','ada@example','version.registered','words@1','words','{"digest": "280b9dbc691eadaee9690798a5013e9e03328c53286f852ea19409bf9c7be208", "rows": 60, "message": "first import"}','');
INSERT INTO "events" VALUES(2,'2026-11-22 07:35:40.308945','ada@example','alias.moved','words@production','words','{"old": null, "new": 1, "reason": "registered"}','');
INSERT INTO "events" VALUES(3,'2026-11-22 07:35:40.433411','ada@example','index.built','words-flat','words','{"version": 1, "method": "build", "recall": 1.0, "note": ""}','');
INSERT INTO "events" VALUES(4,'2026-11-22 07:35:40.463235','ada@example','index.built','words-hnsw','words','{"version": 1, "method": "build", "recall": 0.9983333333333333, "note": ""}','');
INSERT INTO "events" VALUES(5,'2026-11-22 07:35:40.482141','ada@example','dataset.added','pairs',NULL,'{"kind": "pairs", "digest": "84733d75f6ab10acd43799143b1097e692f5f5272e40108a9ea3edc11b8fe232"}','');
INSERT INTO "events" VALUES(6,'2026-11-22 07:35:40.494829','ada@example','version.registered','words@2','words','{"digest": "386faa3adfbcd9474df22950c22ad136c2a6cd6bab48547b858ea8f8f19b3553", "rows": 65, "message": "five more"}','');
INSERT INTO "events" VALUES(7,'2026-11-22 07:35:40.496627','ada@example','index.stale','words-hnsw','words','{"repair": "add", "reason": "5 rows added of 60"}','');
INSERT INTO "events" VALUES(8,'2026-11-22 07:35:40.508849','ada@example','version.registered','words@3','words','{"digest": "b3ecc34698dc53bb50bbfe355cfc3a2e98c102a5f73b67d50331165f11bb27c7", "rows": 3, "message": "a mistake"}','');
INSERT INTO "events" VALUES(9,'2026-11-22 07:35:40.532054','ada@example','version.deleted','words@3','words','{"digest": "b3ecc34698dc53bb50bbfe355cfc3a2e98c102a5f73b67d50331165f11bb27c7"}','');
INSERT INTO "events" VALUES(10,'2026-11-22 07:35:40.536464','ada@example','alias.moved','words@staging','words','{"old": null, "new": 2, "reason": ""}','');
INSERT INTO "events" VALUES(11,'2026-11-22 07:35:40.540925','ada@example','alias.removed','words@staging','words','{"old": 2, "new": null, "reason": ""}','');
INSERT INTO "events" VALUES(12,'2026-11-22 07:35:41.350783','ada@example','run.recorded','words@2','words','{"suite": "anisotropy", "status": "done", "baseline": null, "dataset": null}','');
INSERT INTO "events" VALUES(13,'2026-11-22 07:35:41.361944','ada@example','run.recorded','words@2','words','{"suite": "drift", "status": "done", "baseline": "words@1", "dataset": null}','');
INSERT INTO "events" VALUES(14,'2026-11-22 07:35:41.371087','ada@example','run.recorded','words@2','words','{"suite": "hubness", "status": "done", "baseline": null, "dataset": null}','');
INSERT INTO "events" VALUES(15,'2026-11-22 07:35:41.381106','ada@example','run.recorded','words@2','words','{"suite": "neighbors", "status": "done", "baseline": null, "dataset": null}','');
INSERT INTO "events" VALUES(16,'2026-11-22 07:35:41.398291','ada@example','run.recorded','words@2','words','{"suite": "quantization", "status": "done", "baseline": null, "dataset": null}','');
INSERT INTO "events" VALUES(17,'2026-11-22 07:35:41.414130','ada@example','run.recorded','words@2','words','{"suite": "similarity", "status": "done", "baseline": null, "dataset": "pairs"}','');
INSERT INTO "events" VALUES(18,'2026-11-22 07:35:42.067672','ada@example','gate.passed','words@2','words','{"baseline": "words@1"}','embreg gate words@2 --baseline words@1');
INSERT INTO "events" VALUES(19,'2026-11-22 07:35:42.780875','ada@example','alias.moved','words@production','words','{"old": 1, "new": 2, "reason": "gate passed against words@1: 1 checks, 2026-11-22 07:35:42 UTC"}','embreg promote words@2 production');
INSERT INTO "events" VALUES(20,'2026-11-22 07:35:42.783049','ada@example','index.stale','words-flat','words','{"repair": "add", "reason": "5 rows added of 60"}','embreg promote words@2 production');
CREATE TABLE indexes (
	id INTEGER NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	tracks VARCHAR(128) NOT NULL, 
	factory TEXT NOT NULL, 
	search TEXT NOT NULL, 
	metric VARCHAR(16) NOT NULL, 
	tracked_id INTEGER, 
	state VARCHAR(16) NOT NULL, 
	relation VARCHAR(16), 
	repair VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	CONSTRAINT pk_indexes PRIMARY KEY (id), 
	CONSTRAINT fk_indexes_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT fk_indexes_tracked_id FOREIGN KEY(tracked_id) REFERENCES versions (id), 
	CONSTRAINT uq_indexes_name UNIQUE (name)
);
INSERT INTO "indexes" VALUES(1,'words-flat',1,'production','Flat','','cosine',2,'stale','appended','add','5 rows added of 60');
INSERT INTO "indexes" VALUES(2,'words-hnsw',1,'latest','HNSW8','','cosine',2,'stale','appended','add','5 rows added of 60');
CREATE TABLE measures (
	id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	metric VARCHAR(128) NOT NULL, 
	labels JSON NOT NULL, 
	value DOUBLE NOT NULL, 
	n INTEGER NOT NULL, 
	low DOUBLE, 
	high DOUBLE, 
	CONSTRAINT pk_measures PRIMARY KEY (id), 
	CONSTRAINT fk_measures_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);
INSERT INTO "measures" VALUES(1,1,'effective_rank','{}',7.89813283662101,65,NULL,NULL);
INSERT INTO "measures" VALUES(2,1,'stable_rank','{}',5.45662642474609516085e+00,65,NULL,NULL);
INSERT INTO "measures" VALUES(3,1,'mean_cosine','{}',1.94808684275183142953e-02,65,NULL,NULL);
INSERT INTO "measures" VALUES(4,1,'mean_square_cosine','{}',1.1757434954399538507e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(5,1,'self_cluster','{}',-8.48645766400526677109e-03,65,NULL,NULL);
INSERT INTO "measures" VALUES(6,1,'participation_ratio','{}',7.19847794404185492567e+00,65,NULL,NULL);
INSERT INTO "measures" VALUES(7,1,'participation_ratio_unbiased','{}',8.20226376863171147135e+00,65,NULL,NULL);
INSERT INTO "measures" VALUES(8,1,'isoscore','{}',8.85496849148836417953e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(9,1,'isoscore_unbiased','{}',1.02889482409024446418e+00,65,NULL,NULL);
INSERT INTO "measures" VALUES(10,1,'top_share','{"k": "1"}',1.85957638917199019612e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(11,1,'top_share','{"k": "3"}',5.14778721277934336875e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(12,1,'top_share','{"k": "10"}',1.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(13,1,'alpha_req','{}',4.89130792323815732913e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(14,1,'similarity_quantile','{"q": "0.01"}',-7.17253348255167844094e-01,2080,NULL,NULL);
INSERT INTO "measures" VALUES(15,1,'similarity_quantile','{"q": "0.05"}',-5.4174466274359756035e-01,2080,NULL,NULL);
INSERT INTO "measures" VALUES(16,1,'similarity_quantile','{"q": "0.25"}',-2.38947456753162978948e-01,2080,NULL,NULL);
INSERT INTO "measures" VALUES(17,1,'similarity_quantile','{"q": "0.5"}',1.43378814935176263078e-02,2080,NULL,NULL);
INSERT INTO "measures" VALUES(18,1,'similarity_quantile','{"q": "0.75"}',2.76934501013522793577e-01,2080,NULL,NULL);
INSERT INTO "measures" VALUES(19,1,'similarity_quantile','{"q": "0.95"}',5.95419413122051266462e-01,2080,NULL,NULL);
INSERT INTO "measures" VALUES(20,1,'similarity_quantile','{"q": "0.99"}',7.42805297052880231234e-01,2080,NULL,NULL);
INSERT INTO "measures" VALUES(21,1,'norm_mean','{}',2.57911118160977181901e+00,65,NULL,NULL);
INSERT INTO "measures" VALUES(22,1,'norm_std','{}',7.06117726271170309537e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(23,1,'norm_min','{}',6.34215342344991328538e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(24,1,'norm_max','{}',4.38729764901023600032e+00,65,NULL,NULL);
INSERT INTO "measures" VALUES(25,1,'zero_rows','{}',0.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(26,1,'norm_rank_correlation','{}',1.90340909090909088385e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(27,2,'shared_share','{"of": "baseline"}',1.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(28,2,'shared_share','{"of": "candidate"}',9.23076923076923128164e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(29,2,'added','{}',5.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(30,2,'removed','{}',0.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(31,2,'semantic_displacement','{}',0.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(32,2,'raw_cosine','{}',1.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(33,2,'cka','{}',1.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(34,2,'procrustes_residual','{}',0.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(35,2,'norm_shift','{}',0.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(36,2,'centroid_shift','{}',0.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(37,2,'mean_cosine_change','{}',0.0,60,NULL,NULL);
INSERT INTO "measures" VALUES(38,2,'neighbor_overlap@10','{}',1.0,60,1.0,1.0);
INSERT INTO "measures" VALUES(39,2,'rbo','{}',1.0,60,1.0,1.0);
INSERT INTO "measures" VALUES(40,2,'cross_recall@10','{}',1.0,60,1.0,1.0);
INSERT INTO "measures" VALUES(41,3,'skewness','{}',-3.85217342517909566712e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(42,3,'robin_hood','{}',1.01538461538461535771e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(43,3,'gini','{}',1.43384615384615443645e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(44,3,'antihub_rate','{}',0.0,65,0.0,5.58015313228568815562e-02);
INSERT INTO "measures" VALUES(45,3,'hub_occurrence','{}',0.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(46,3,'max_occurrence','{}',16.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(47,4,'top1_cosine','{}',7.45703632097977853199e-01,65,7.25349449584117289546e-01,7.65848008096218113571e-01);
INSERT INTO "measures" VALUES(48,4,'top1_cosine','{"q": "0.05"}',6.2159925699234008789e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(49,4,'top1_cosine','{"q": "0.5"}',7.42853462696075439453e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(50,4,'top1_cosine','{"q": "0.95"}',9.12285125255584694592e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(51,4,'margin@10','{"q": "0.05"}',2.21221566200256347656e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(52,4,'margin@10','{"q": "0.5"}',3.30504387617111206054e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(53,4,'margin@10','{"q": "0.95"}',5.80058065056800686853e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(54,4,'duplicate_rate','{}',0.0,65,0.0,5.58015313228568815562e-02);
INSERT INTO "measures" VALUES(55,4,'reciprocity@10','{}',8.46153846153846145305e-01,65,8.04576923076923078426e-01,8.81538461538461493027e-01);
INSERT INTO "measures" VALUES(56,5,'recall@10','{"codec": "fp16"}',1.0,65,1.0,1.0);
INSERT INTO "measures" VALUES(57,5,'distortion','{"codec": "fp16"}',1.98525021084277811375e-04,65,NULL,NULL);
INSERT INTO "measures" VALUES(58,5,'cosine_mean','{"codec": "fp16"}',9.99999984565756450116e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(59,5,'cosine_min','{"codec": "fp16"}',9.99999951356376537425e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(60,5,'bytes_per_vector','{"codec": "fp16"}',16.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(61,5,'ratio','{"codec": "fp16"}',2.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(62,5,'recall@10','{"codec": "bf16"}',1.0,65,1.0,1.0);
INSERT INTO "measures" VALUES(63,5,'distortion','{"codec": "bf16"}',1.65260359834870011568e-03,65,NULL,NULL);
INSERT INTO "measures" VALUES(64,5,'cosine_mean','{"codec": "bf16"}',9.99999080341802071281e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(65,5,'cosine_min','{"codec": "bf16"}',9.99997157679376580396e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(66,5,'bytes_per_vector','{"codec": "bf16"}',16.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(67,5,'ratio','{"codec": "bf16"}',2.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(68,5,'recall@10','{"codec": "int8"}',9.96923076923076911803e-01,65,9.9230769230769233502e-01,1.0);
INSERT INTO "measures" VALUES(69,5,'distortion','{"codec": "int8"}',4.78816662632929827131e-03,65,NULL,NULL);
INSERT INTO "measures" VALUES(70,5,'cosine_mean','{"codec": "int8"}',9.9999021780198671383e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(71,5,'cosine_min','{"codec": "int8"}',9.99983140507676671049e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(72,5,'bytes_per_vector','{"codec": "int8"}',8.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(73,5,'ratio','{"codec": "int8"}',4.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(74,5,'recall@10','{"codec": "int4"}',0.96,65,9.4769230769230772271e-01,9.72307692307692317257e-01);
INSERT INTO "measures" VALUES(75,5,'distortion','{"codec": "int4"}',7.81337853662926323794e-02,65,NULL,NULL);
INSERT INTO "measures" VALUES(76,5,'cosine_mean','{"codec": "int4"}',9.97299130693516056034e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(77,5,'cosine_min','{"codec": "int4"}',9.94293102222688296443e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(78,5,'bytes_per_vector','{"codec": "int4"}',4.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(79,5,'ratio','{"codec": "int4"}',8.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(80,5,'recall@10','{"codec": "1-bit"}',6.12307692307692219557e-01,65,5.83076923076922937205e-01,6.41538461538461612931e-01);
INSERT INTO "measures" VALUES(81,5,'distortion','{"codec": "1-bit"}',5.56974518873944890451e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(82,5,'cosine_mean','{"codec": "1-bit"}',8.25524912626594664644e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(83,5,'cosine_min','{"codec": "1-bit"}',5.72112790225833611756e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(84,5,'bytes_per_vector','{"codec": "1-bit"}',1.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(85,5,'ratio','{"codec": "1-bit"}',32.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(86,5,'recall@10','{"codec": "truncate-1/2"}',4.59999999999999964472e-01,65,4.15384615384615407673e-01,5.03115384615384630961e-01);
INSERT INTO "measures" VALUES(87,5,'distortion','{"codec": "truncate-1/2"}',7.04364235074858124896e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(88,5,'cosine_mean','{"codec": "truncate-1/2"}',6.66524237951668374613e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(89,5,'cosine_min','{"codec": "truncate-1/2"}',1.0353058050337191065e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(90,5,'bytes_per_vector','{"codec": "truncate-1/2"}',16.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(91,5,'ratio','{"codec": "truncate-1/2"}',2.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(92,5,'recall@10','{"codec": "truncate-1/4"}',2.9076923076923077982e-01,65,2.58461538461538464783e-01,3.2465384615384612621e-01);
INSERT INTO "measures" VALUES(93,5,'distortion','{"codec": "truncate-1/4"}',8.7486612792073925604e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(94,5,'cosine_mean','{"codec": "truncate-1/4"}',4.22011188429217587447e-01,65,NULL,NULL);
INSERT INTO "measures" VALUES(95,5,'cosine_min','{"codec": "truncate-1/4"}',3.85876366953076463395e-02,65,NULL,NULL);
INSERT INTO "measures" VALUES(96,5,'bytes_per_vector','{"codec": "truncate-1/4"}',8.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(97,5,'ratio','{"codec": "truncate-1/4"}',4.0,65,NULL,NULL);
INSERT INTO "measures" VALUES(98,6,'coverage','{}',1.0,20,NULL,NULL);
INSERT INTO "measures" VALUES(99,6,'spearman','{}',-1.75339960172785053194e-01,20,-5.73371911866087158315e-01,2.89655661330827263189e-01);
INSERT INTO "measures" VALUES(100,6,'pearson','{}',-1.13090496258409084484e-01,20,-5.2913097442843515239e-01,3.46785110275192043349e-01);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	baseline_id INTEGER, 
	suite VARCHAR(64) NOT NULL, 
	suite_version INTEGER NOT NULL, 
	dataset VARCHAR(128), 
	dataset_digest VARCHAR(64), 
	params JSON NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	verdict VARCHAR(32), 
	seed INTEGER NOT NULL, 
	duration_s DOUBLE NOT NULL, 
	cache_key VARCHAR(64) NOT NULL, 
	absent JSON NOT NULL, 
	notes JSON NOT NULL, 
	items VARCHAR(64), 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id), 
	CONSTRAINT fk_runs_baseline_id FOREIGN KEY(baseline_id) REFERENCES versions (id), 
	CONSTRAINT fk_runs_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "runs" VALUES(1,2,NULL,'anisotropy',1,NULL,NULL,'{"top": [1, 3, 10], "pairs": 100000, "bins": 50}','done','',NULL,0,7.22089753999171080067e-01,'7608e5a5175f10909212ed4350abc7afb72284928017bca3f417d107e93b5982','[]','[]','c116900cd693f9f6d4bbcfe04d96c3221c4c54bb9b33c9bfe5a9bd766cfcc438','2026-11-22 07:35:41.349971');
INSERT INTO "runs" VALUES(2,2,1,'drift',1,NULL,NULL,'{"k": 10, "queries": 2000, "same_direction": 1e-06, "same_norm": 0.001, "respaced": 0.05, "refined": 0.8, "rotated": 0.9}','done','','identical',0,1.94549799925880506634e-03,'823a3bcf19ebb6d4da021d9c41d4db1930937e1473c94fe5fbf541dbda8fbd0b','[]','["identical: every row has its direction (1 - cosine <= 1e-06); lengths differ by at most 0 (same_norm = 0.001)"]','6940a0f70bbec730fa6b126e58c9c2c807579cba691c2429b276e0a3abd08e12','2026-11-22 07:35:41.361512');
INSERT INTO "runs" VALUES(3,2,NULL,'hubness',1,NULL,NULL,'{"k": 10}','done','',NULL,0,3.83047300056205131113e-03,'dfdb2961a0e740fba6c26fc0b224fa6d851cdba5f3ed56b30f5f989375fde3d8','[]','["top hubs of 65 lists: ''w55'' 16, ''w15'' 15, ''w20'' 14, ''w47'' 14, ''w1'' 13"]','45e5f2f3f2bbed90f39f0b3778f33cbf153b23936c7d05fc19616e7d85238941','2026-11-22 07:35:41.370814');
INSERT INTO "runs" VALUES(4,2,NULL,'neighbors',1,NULL,NULL,'{"k": 10, "label": "", "edges": 2000}','done','',NULL,0,4.87178600087645463645e-03,'018140a2ed9c3b5a343a34f21197fd09a6da0eafe075698e320d7e7ae6c67856','[{"metric": "purity@10", "labels": {}, "reason": "no labels: name an attribute column in neighbors.label"}, {"metric": "purity_lift@10", "labels": {}, "reason": "no labels: name an attribute column in neighbors.label"}, {"metric": "label_coverage", "labels": {}, "reason": "no labels: name an attribute column in neighbors.label"}]','[]','8942853567171ab6b2aa3fa5f78d1c55b0bad6e407b221cb6767739985245ac5','2026-11-22 07:35:41.380773');
INSERT INTO "runs" VALUES(5,2,NULL,'quantization',1,NULL,NULL,'{"k": 10, "queries": 1000, "codecs": ["fp16", "bf16", "int8", "int4", "1-bit", "pq", "truncate-1/2", "truncate-1/4"]}','done','',NULL,0,1.11757160011620726436e-02,'0fad5e594f92c5e20575344914fdb5c1d9bd66f99e86da3f8ed9946bfca94bf4','[{"metric": "recall@10", "labels": {"codec": "pq"}, "reason": "a codebook of 256 cannot be trained on 65 rows"}, {"metric": "distortion", "labels": {"codec": "pq"}, "reason": "a codebook of 256 cannot be trained on 65 rows"}, {"metric": "cosine_mean", "labels": {"codec": "pq"}, "reason": "a codebook of 256 cannot be trained on 65 rows"}, {"metric": "cosine_min", "labels": {"codec": "pq"}, "reason": "a codebook of 256 cannot be trained on 65 rows"}, {"metric": "bytes_per_vector", "labels": {"codec": "pq"}, "reason": "a codebook of 256 cannot be trained on 65 rows"}, {"metric": "ratio", "labels": {"codec": "pq"}, "reason": "a codebook of 256 cannot be trained on 65 rows"}]','[]','b4c34dd31ba5142cc248840c0d6b323b0633a0ec5a4319b4431d09b3290d38cc','2026-11-22 07:35:41.397215');
INSERT INTO "runs" VALUES(6,2,NULL,'similarity',1,'pairs','84733d75f6ab10acd43799143b1097e692f5f5272e40108a9ea3edc11b8fe232','{"restrict_vocab": 0, "case_fold": true}','done','',NULL,0,9.09747900004731491208e-03,'81618af2ec04be147ee9bfc9d96a75cbdea01867f055790738f6f3ac9a757979','[]','[]','a825cebc85b6ebdd4632b046f3ee2fc638a4395270b16dd90520d240fbe0fa4a','2026-11-22 07:35:41.413902');
CREATE TABLE verdicts (
	id INTEGER NOT NULL, 
	version_id INTEGER NOT NULL, 
	baseline_id INTEGER, 
	version_digest VARCHAR(64) NOT NULL, 
	baseline_digest VARCHAR(64), 
	passed BOOLEAN NOT NULL, 
	config_digest VARCHAR(64) NOT NULL, 
	checks JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_verdicts PRIMARY KEY (id), 
	CONSTRAINT fk_verdicts_baseline_id FOREIGN KEY(baseline_id) REFERENCES versions (id), 
	CONSTRAINT fk_verdicts_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "verdicts" VALUES(1,2,1,'386faa3adfbcd9474df22950c22ad136c2a6cd6bab48547b858ea8f8f19b3553','280b9dbc691eadaee9690798a5013e9e03328c53286f852ea19409bf9c7be208',1,'4582170b4a981d95cf1b5cf02525eb33fcf79ce61b3e84b2723d68002834d516','[{"metric": "drift.neighbor_overlap@10", "labels": {}, "value": 1.0, "baseline": null, "bound": ">= 0", "outcome": "passed", "reason": "within bounds", "severity": "critical", "p_value": null, "n": 60, "low": 1.0, "high": 1.0}]','2026-11-22 07:35:42.067546');
CREATE TABLE version_blobs (
	version_id INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_version_blobs PRIMARY KEY (version_id, digest), 
	CONSTRAINT fk_version_blobs_version_id FOREIGN KEY(version_id) REFERENCES versions (id)
);
INSERT INTO "version_blobs" VALUES(1,'280b9dbc691eadaee9690798a5013e9e03328c53286f852ea19409bf9c7be208');
INSERT INTO "version_blobs" VALUES(1,'93f42e1ebefa241fa1a8033ec47cf06fd45afb7e962b41613bfea0dac6ce7192');
INSERT INTO "version_blobs" VALUES(2,'386faa3adfbcd9474df22950c22ad136c2a6cd6bab48547b858ea8f8f19b3553');
INSERT INTO "version_blobs" VALUES(2,'31a54d80be81758609652819eb58b1d1fd5418f39ae2c4c6f76a162ad5760835');
INSERT INTO "version_blobs" VALUES(3,'085d6dc0af698a6cd72cf918b90a177e9d9cb9dfd0281183ace0bb9495138cf8');
INSERT INTO "version_blobs" VALUES(3,'b3ecc34698dc53bb50bbfe355cfc3a2e98c102a5f73b67d50331165f11bb27c7');
CREATE TABLE versions (
	id INTEGER NOT NULL, 
	embedding_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	content_digest VARCHAR(64) NOT NULL, 
	rows INTEGER NOT NULL, 
	nbytes INTEGER NOT NULL, 
	space JSON NOT NULL, 
	statistics JSON NOT NULL, 
	message TEXT NOT NULL, 
	source TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	created_by VARCHAR(256) NOT NULL, 
	deleted_at DATETIME, 
	CONSTRAINT pk_versions PRIMARY KEY (id), 
	CONSTRAINT fk_versions_embedding_id FOREIGN KEY(embedding_id) REFERENCES embeddings (id), 
	CONSTRAINT uq_versions_number UNIQUE (embedding_id, number)
);
INSERT INTO "versions" VALUES(1,1,1,'280b9dbc691eadaee9690798a5013e9e03328c53286f852ea19409bf9c7be208','99fc6855a632224fb8b3e90e0ff8e25c6b15d934a670b632aeb3f1f7cf824190',60,4002,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": "first", "tokenizer": null, "pooling": null, "position": null, "tied": null, "tags": {}}','{"norm_mean": 2.5472622079097773, "norm_std": 0.7076340937042157, "norm_min": 0.6342153423449913, "norm_max": 4.387297649010236, "zero_rows": 0, "dropped_rows": 0}','first import','table','2026-11-22 07:35:40.299954','ada@example',NULL);
INSERT INTO "versions" VALUES(2,1,2,'386faa3adfbcd9474df22950c22ad136c2a6cd6bab48547b858ea8f8f19b3553','ed94c102f988817aded2b11f7202de51f4e52ac862718f7ad222b39e792cd377',65,4250,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": "first", "tokenizer": null, "pooling": null, "position": null, "tied": null, "tags": {}}','{"norm_mean": 2.579111181609772, "norm_std": 0.70611772627117, "norm_min": 0.6342153423449913, "norm_max": 4.387297649010236, "zero_rows": 0, "dropped_rows": 0}','five more','table','2026-11-22 07:35:40.494227','ada@example',NULL);
INSERT INTO "versions" VALUES(3,1,3,'b3ecc34698dc53bb50bbfe355cfc3a2e98c102a5f73b67d50331165f11bb27c7','4fb5c916fdf591b29c520e0e313c85a0c54d239b8392b67c643ee86f2f93e228',3,1098,'{"dim": 8, "dtype": "float32", "metric": "cosine", "kind": "word", "normalised": false, "model": "first", "tokenizer": null, "pooling": null, "position": null, "tied": null, "tags": {}}','{"norm_mean": 2.348675607855933, "norm_std": 0.8515676583631403, "norm_min": 1.5348468497849945, "norm_max": 3.524363867533596, "zero_rows": 0, "dropped_rows": 0}','a mistake','table','2026-11-22 07:35:40.508255','ada@example','2026-11-22 07:35:40.531629');
CREATE INDEX ix_datasets_kind ON datasets (kind);
CREATE INDEX ix_events_embedding ON events (embedding);
CREATE INDEX ix_versions_content_digest ON versions (content_digest);
CREATE INDEX ix_versions_digest ON versions (digest);
CREATE INDEX ix_versions_embedding_id ON versions (embedding_id);
CREATE INDEX ix_alias_moves_embedding_id ON alias_moves (embedding_id);
CREATE INDEX ix_aliases_embedding_id ON aliases (embedding_id);
CREATE INDEX ix_aliases_version_id ON aliases (version_id);
CREATE INDEX ix_indexes_embedding_id ON indexes (embedding_id);
CREATE INDEX ix_runs_baseline_id ON runs (baseline_id);
CREATE INDEX ix_runs_cache_key ON runs (cache_key);
CREATE INDEX ix_runs_suite ON runs (suite);
CREATE INDEX ix_runs_version_id ON runs (version_id);
CREATE INDEX ix_verdicts_version_digest ON verdicts (version_digest);
CREATE INDEX ix_verdicts_version_id ON verdicts (version_id);
CREATE INDEX ix_version_blobs_digest ON version_blobs (digest);
CREATE INDEX ix_builds_index_id ON builds (index_id);
CREATE INDEX ix_builds_version_id ON builds (version_id);
CREATE INDEX ix_measures_run_id ON measures (run_id);
COMMIT;
